//! Runs the translator.
use sixgate_engine::finding::Finding;
use sixgate_engine::status;
use tokio::sync::{mpsc, watch};

use crate::wiring::{Desired, Withdraw};

/// This task's ends of the channels.
pub struct Ends {
    /// The plan.
    pub desired: watch::Receiver<Desired>,
    /// Asks for the device to be given up.
    pub withdraw: mpsc::Receiver<Withdraw>,
    /// What the console shows.
    pub slice: watch::Sender<Slice>,
}

/// This task's slice of the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// The translator; absent when switched off.
    pub status: Option<status::Nat64>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}
/// There is no translator in this build: a withdrawal finds nothing to take back.
pub async fn run(mut ends: Ends) {
    while let Some(done) = ends.withdraw.recv().await {
        let _ = done.send(());
    }
}
