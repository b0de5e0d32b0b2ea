//! DNS64: RFC 6147 synthesis, and the transactions that lead to it.
//!
//! A [`Transaction`] is one client's query from its bytes to the response. It asks the upstreams through whoever drives
//! it and neither opens sockets nor reads a clock:
//!
//! ```text
//! let mut transaction = Transaction::new(query_bytes, transport, plan, view, seed, now);
//! loop {
//!     while let Some(event) = transaction.poll_event() {
//!         // count it; Event::Finished carries the response (or nothing: drop in silence) and ends the loop
//!     }
//!     if let Some(transmit) = transaction.poll_transmit() {
//!         // close the socket of the preceding question, open a fresh one to `transmit.upstream` by
//!         // `transmit.transport` (connected, and with a random port of its own), send `transmit.message`
//!     }
//!     // wait for a message on that socket    -> handle_input(message, now)
//!     //       or for an error on that socket -> handle_failure(now)
//!     //       or until poll_timeout()        -> handle_timeout(now)
//! }
//! ```
//!
//! An answer that is to be validated comes out by poll_validation(), and what came of that goes in by handle_verdict().
//! At most one question is outstanding at a time; a new one replaces it. Over TCP the two-byte length is the driver's.
//! The seed is to come from the operating system's random numbers: the message identifiers are drawn from it.
//!
//! Behind hickory-server's `RequestHandler`, `Request::as_slice` gives the query's bytes, and the response goes out as
//! `MessageResponseBuilder::new(&request.queries, response.edns.as_ref()).build(response.metadata, &response.answers,
//! &response.authorities, [], &response.additionals)`. It has been cut to the client's payload size already. Any other
//! front sends `response.to_vec()`.
//!
//! A [`Cache`] keeps finished [`Answer`]s by [`Key`]; whoever drives transactions asks it first, and joins equal questions.
mod answer;
mod cache;
mod counters;
mod ede;
mod exchange;
mod exclusion;
mod hints;
mod ipv4only;
mod local;
mod plain;
mod rate;
mod reason;
mod rebinding;
mod request;
mod response;
mod reverse;
mod synthesis;
mod top;
mod transaction;
mod upstreams;
mod validation;
mod view;

pub use answer::{Answer, Finished};
pub use cache::{Cache, Holding, Lookup};
pub use counters::Counters;
pub use exchange::{ATTEMPT_TIMEOUT, Transmit};
pub use plain::{Key, Plain};
pub use rate::{Admission, RateLimit};
pub use reason::Reason;
pub use request::{MAX_UDP_PAYLOAD, Transport};
pub use top::Top;
pub use transaction::{Event, Outcome, TRANSACTION_TIMEOUT, Transaction};
pub use upstreams::Upstreams;
pub use validation::{Flaw, Link, Verdict, chain};
pub use view::View;
