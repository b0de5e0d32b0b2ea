//! What the demo's client reports, and how that reads.
use std::time::Duration;

use serde::Deserialize;

/// A line from the client.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub(crate) enum Report {
    /// It does something, or waits for something.
    State { text: String, learnt: Learnt },
    /// Something did not work; it tries again.
    Error { text: String, learnt: Learnt },
    /// It has a page.
    Fetched(Box<Page>),
}

/// What advertisements told it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(crate) struct Learnt {
    /// Its own address.
    address: Option<String>,
    /// Its default router.
    router: Option<String>,
    /// Its resolver.
    resolver: Option<String>,
    /// The NAT64 prefix.
    pref64: Option<String>,
}

/// A page that it has got.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Page {
    round: u64,
    seconds: f64,
    learnt: Learnt,
    name: String,
    address: String,
    status: String,
    headline: String,
    bytes: usize,
    resolve_ms: u64,
    fetch_ms: u64,
}

/// All that the client has reported.
#[derive(Debug, Default)]
pub(crate) struct History {
    newest: Option<Report>,
    first_page: Option<Page>,
    last_page: Option<Page>,
    pages: u64,
    errors: u64,
    has_ended: bool,
}

impl History {
    /// Takes a report; returns whether it is the first success.
    pub(crate) fn take(&mut self, report: Report) -> bool {
        let mut first = false;
        match &report {
            Report::State { .. } => {}
            Report::Error { .. } => self.errors += 1,
            Report::Fetched(page) => {
                first = self.first_page.is_none();
                self.pages += 1;
                self.first_page.get_or_insert_with(|| (**page).clone());
                self.last_page = Some((**page).clone());
            }
        }
        self.newest = Some(report);
        first
    }

    /// Takes note that its machine has ended.
    pub(crate) fn end(&mut self) {
        self.has_ended = true;
    }

    /// Whether it has got a page.
    pub(crate) fn has_succeeded(&self) -> bool {
        self.first_page.is_some()
    }

    /// The present state in one line.
    pub(crate) fn line(&self) -> String {
        match &self.newest {
            _ if self.has_ended => "client: its machine has ended".into(),
            None => "client: boots".into(),
            Some(Report::State { text, .. }) => format!("client: {text}"),
            Some(Report::Error { text, .. }) => format!("client: FAILED: {text}"),
            Some(Report::Fetched(page)) => page.line(),
        }
    }

    /// What the client knows in one line.
    pub(crate) fn details(&self) -> String {
        let learnt = match &self.newest {
            None => return "nothing known of the client yet".into(),
            Some(Report::State { learnt, .. } | Report::Error { learnt, .. }) => learnt,
            Some(Report::Fetched(page)) => &page.learnt,
        };
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none yet".into());
        format!("has {}, asks {}", or_none(&learnt.address), or_none(&learnt.resolver))
    }

    /// What happened in all, for the end.
    pub(crate) fn summary(&self) -> String {
        let Some(page) = &self.last_page else {
            return format!("The client got no page. Its last word:\n  {}\n  {}\n", self.line(), self.details());
        };
        let value = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        let first =
            self.first_page.as_ref().map_or(Duration::ZERO, |page| Duration::from_secs_f64(page.seconds.max(0.0)));
        format!(
            "The client, which has IPv6 only, reached a server that has IPv4 only:\n\
             \x20 address    {} (SLAAC)\n\
             \x20 router     {} (router advertisement)\n\
             \x20 resolver   {} (RDNSS)\n\
             \x20 pref64     {} (PREF64)\n\
             \x20 name       {} -> {} (DNS64, {} ms)\n\
             \x20 page       {}, {} bytes in {} ms (NAT64)\n\
             \x20 it says    {}\n\
             \x20 pages      {}, the first {:.1} s after the client's network card came up; {} failures\n",
            value(&page.learnt.address),
            value(&page.learnt.router),
            value(&page.learnt.resolver),
            value(&page.learnt.pref64),
            page.name,
            page.address,
            page.resolve_ms,
            page.status,
            page.bytes,
            page.fetch_ms,
            page.headline,
            self.pages,
            first.as_secs_f64(),
            self.errors,
        )
    }
}

impl Page {
    fn line(&self) -> String {
        format!(
            "client: {} from {}, {} bytes in {} ms, round {}",
            self.status, self.address, self.bytes, self.fetch_ms, self.round
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FETCHED: &str = r#"{"state":"fetched","round":2,"seconds":7.25,"name":"ipv4only.demo.test",
        "learnt":{"address":"fd00:64:0:1::2","router":"fe80::1","resolver":"fd00:64:0:1::1","pref64":"64:ff9b:1::/96"},
        "address":"64:ff9b:1::a00:202","status":"200 OK","headline":"Hello.","bytes":64,"resolve_ms":3,"fetch_ms":9}"#;
    const FAILED: &str = r#"{"state":"error","text":"no connection","learnt":{"address":null,"router":null,"resolver":null,"pref64":null}}"#;

    fn report(text: &str) -> Report {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn only_the_first_page_is_the_first_success() {
        let mut history = History::default();
        assert!(!history.take(report(FAILED)));
        assert!(!history.has_succeeded());
        assert!(history.take(report(FETCHED)));
        assert!(!history.take(report(FETCHED)));
        assert!(history.has_succeeded());
    }

    #[test]
    fn the_line_shows_success_and_failure() {
        let mut history = History::default();
        history.take(report(FETCHED));
        assert_eq!(history.line(), "client: 200 OK from 64:ff9b:1::a00:202, 64 bytes in 9 ms, round 2");
        assert_eq!(history.details(), "has fd00:64:0:1::2, asks fd00:64:0:1::1");
        history.take(report(FAILED));
        assert_eq!(history.line(), "client: FAILED: no connection");
        assert!(history.summary().contains("pages      1, the first 7.2 s"), "{}", history.summary());
        assert!(history.summary().contains("1 failures"), "{}", history.summary());
        history.end();
        assert_eq!(history.line(), "client: its machine has ended");
    }
}
