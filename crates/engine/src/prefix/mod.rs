//! Where prefixes come from and what becomes of them: learnt on the uplink, delegated, generated, carved, retired.
mod carve;
mod learnt;
mod lifecycle;
mod resolve;

pub use carve::{Carved, NoRoom, carve, place};
pub use learnt::{Learnt, LearntAddress, LearntPrefix, Lease4, Uplink6};
pub use lifecycle::Lifecycle;
pub use resolve::resolve;
