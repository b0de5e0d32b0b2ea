//! Reads links and addresses whole, at start and after every announcement of the kernel.
use std::sync::Arc;
use std::time::Duration;

use sixgate_engine::facts::Facts;
use sixgate_engine::finding::{Finding, Severity};
use sixgate_engine::firewall::TABLE;
use sixgate_linux::events::Events;
use sixgate_linux::netlink::Netlink;
use sixgate_linux::nft;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::backoff::Backoff;
use crate::wiring::KernelChange;

/// Announcements come in bursts; one reading answers all that come within this time.
const SETTLE: Duration = Duration::from_millis(50);

/// This task's ends of the channels.
pub struct Ends {
    /// The facts, sent when they differ.
    pub facts: watch::Sender<Option<Arc<Facts>>>,
    /// Raised after each reading, also when routes or rules changed that the facts do not show.
    pub kernel: watch::Sender<KernelChange>,
    /// What the console shows.
    pub slice: watch::Sender<Slice>,
}

/// This task's slice of the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Runs for ever; a connection that breaks is opened again.
pub async fn run(ends: Ends) {
    let mut backoff = Backoff::default();
    loop {
        let Err(error) = follow(&ends, &mut backoff).await;
        tracing::debug!("rtnetlink: {error:#}");
        ends.slice.send_replace(Slice { findings: vec![unreadable(&error)] });
        sleep(backoff.failed()).await;
    }
}

async fn follow(ends: &Ends, backoff: &mut Backoff) -> anyhow::Result<std::convert::Infallible> {
    // Subscribed first: what changes during the first reading is announced.
    let mut events = Events::connect()?;
    let netlink = Netlink::connect()?;
    let mut rules = Rules::default();
    loop {
        let mut facts = netlink.read_facts().await?;
        rules.listen();
        // Where nobody can tell, nobody's rules are gone past.
        facts.foreign_rules = nft::foreign(TABLE).await.unwrap_or(true);
        publish(ends, facts);
        backoff.succeeded();
        loop {
            tokio::select! {
                changed = events.changed() => if changed?.network { break },
                () = rules.changed() => break,
            }
        }
        sleep(SETTLE).await;
    }
}

/// nftables' announcements, as far as there are any.
#[derive(Default)]
struct Rules(Option<nft::Watch>);

impl Rules {
    /// What was announced up to now is looked at next.
    fn listen(&mut self) {
        match &self.0 {
            Some(watch) => watch.drain(),
            None => self.0 = nft::Watch::open().inspect_err(|error| tracing::debug!("nftables: {error}")).ok(),
        }
    }

    async fn changed(&mut self) {
        let Some(watch) = &self.0 else { return std::future::pending().await };
        if let Err(error) = watch.changed().await {
            tracing::debug!("nftables announces nothing any more: {error}");
            self.0 = None;
            std::future::pending::<()>().await;
        }
    }
}

fn publish(ends: &Ends, facts: Facts) {
    ends.slice.send_if_modified(|slice| !std::mem::take(&mut slice.findings).is_empty());
    ends.facts.send_if_modified(|old| {
        let changed = old.as_deref() != Some(&facts);
        if changed {
            *old = Some(Arc::new(facts));
        }
        changed
    });
    ends.kernel.send_modify(|generation| *generation += 1);
}

fn unreadable(error: &anyhow::Error) -> Finding {
    Finding::new(
        Severity::Error,
        "netlink-unavailable",
        "rtnetlink",
        format!("links and addresses cannot be read: {error:#}"),
        "nothing to do if this is short; otherwise look at the kernel's log and the limit of open files",
    )
}
