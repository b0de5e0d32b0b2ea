//! The stateless translator: RFC 7915 headers and ICMP, used by NAT64 and later by the CLAT.
