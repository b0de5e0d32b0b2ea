//! DNS64: RFC 6147 synthesis, and the transactions that lead to it.
