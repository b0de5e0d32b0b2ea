//! The demo's client: process 1 of a small machine that has IPv6 only, configures itself from the router's advertisements and fetches a page from a server that has IPv4 only.
#![forbid(unsafe_code)]

mod advertisement;
mod fetch;
mod interface;
mod machine;
mod port;
mod resolve;

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;

use advertisement::{Advertisement, Listener};
use port::{Port, Request};

/// The name of the machine's only network card.
const INTERFACE: &str = "eth0";

/// Time between two rounds, so that whoever watches sees that it still works.
const PAUSE: Duration = Duration::from_secs(3);
/// Time between two looks at what the kernel has configured.
const LOOK: Duration = Duration::from_millis(100);

fn main() {
    if !rustix::process::getpid().is_init() {
        eprintln!("this program is process 1 of the demo's client machine and does nothing elsewhere");
        std::process::exit(1);
    }
    if let Err(error) = client() {
        println!("client: {error:#}");
    }
    machine::power_off();
}

/// What the client was told on the kernel's command line: which page to fetch.
struct Task {
    name: String,
    port: u16,
}

fn client() -> Result<()> {
    machine::mount_all()?;
    if machine::argument("client.only").is_ok_and(|value| value == "clock") {
        // What the kernel and an init that does nothing take: `cargo xtask bench start` compares with it.
        println!("client: here after {:.3} s", machine::since_boot().as_secs_f64());
        return Ok(());
    }
    machine::load_modules()?;
    let task = Task {
        name: machine::argument("client.name")?,
        port: machine::argument("client.port")?.parse().context("client.port")?,
    };
    let mut port = Port::open();
    // Listening first: the router's answer to the kernel's first solicitation carries all we need.
    let listener = Listener::open(INTERFACE)?;
    interface::raise(INTERFACE)?;
    let begin = Instant::now();
    let mut learnt = Learnt::default();
    say(&mut port, "state", "waiting for an advertisement", &learnt);
    for round in 1_u64.. {
        loop {
            learnt.update(&listener)?;
            if learnt.is_complete() || port.wait(LOOK) == Some(Request::PowerOff) {
                break;
            }
        }
        if !learnt.is_complete() {
            return Ok(());
        }
        match learnt.fetch(&task) {
            Ok(page) => {
                let text = format!("{} -> {}: {}, {} bytes", task.name, page.address, page.status, page.bytes);
                port.send(&json!({
                    "state": "fetched", "round": round, "seconds": begin.elapsed().as_secs_f64(),
                    "learnt": learnt.json(), "name": task.name, "address": page.address.to_string(),
                    "status": page.status, "bytes": page.bytes, "headline": page.headline,
                    "resolve_ms": page.resolve.as_millis(), "fetch_ms": page.fetch.as_millis(),
                }));
                println!("client: {text}");
            }
            Err(error) => say(&mut port, "error", &format!("{error:#}"), &learnt),
        }
        if port.wait(PAUSE) == Some(Request::PowerOff) {
            return Ok(());
        }
    }
    Ok(())
}

fn say(port: &mut Port, state: &str, text: &str, learnt: &Learnt) {
    println!("client: {text}");
    port.send(&json!({ "state": state, "text": text, "learnt": learnt.json() }));
}

/// What the router's advertisements told the kernel and us.
#[derive(Default)]
struct Learnt {
    address: Option<Ipv6Addr>,
    router: Option<Ipv6Addr>,
    advertised: Advertisement,
}

impl Learnt {
    fn update(&mut self, listener: &Listener) -> Result<()> {
        if let Some(newest) = listener.newest()? {
            self.advertised = newest;
        }
        self.address = interface::address(INTERFACE);
        self.router = interface::router(INTERFACE);
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.address.is_some() && self.router.is_some() && !self.advertised.resolvers.is_empty()
    }

    fn json(&self) -> serde_json::Value {
        let text = |address: Option<Ipv6Addr>| address.map(|address| address.to_string());
        json!({
            "address": text(self.address),
            "router": text(self.router),
            "resolver": text(self.advertised.resolvers.first().copied()),
            "pref64": self.advertised.pref64.map(|(prefix, length)| format!("{prefix}/{length}")),
        })
    }

    fn fetch(&self, task: &Task) -> Result<Page> {
        let begin = Instant::now();
        let resolver = *self.advertised.resolvers.first().context("no resolver was advertised")?;
        let address = resolve::ipv6_address(&task.name, resolver)?;
        let resolve = begin.elapsed();
        let begin = Instant::now();
        let fetch::Response { status, headline, bytes } = fetch::get(&task.name, address, task.port)?;
        Ok(Page { address, status, headline, bytes, resolve, fetch: begin.elapsed() })
    }
}

struct Page {
    address: Ipv6Addr,
    status: String,
    headline: String,
    bytes: usize,
    resolve: Duration,
    fetch: Duration,
}
