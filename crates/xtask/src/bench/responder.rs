//! A server that sends datagrams back, and a client that asks it and measures how long that takes.
use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::generator::{DESTINATIONS, FIRST_DESTINATION, PAYLOAD};

/// Where it answers.
#[derive(clap::Args)]
pub(crate) struct Respond {
    addresses: Vec<IpAddr>,
    /// On so many ports of each.
    #[arg(long, default_value_t = DESTINATIONS)]
    ports: u16,
}

/// Whom to ask, and how long.
#[derive(clap::Args)]
pub(crate) struct AskBack {
    target: IpAddr,
    seconds: f64,
    /// From which port; 0 for any.
    #[arg(long, default_value_t = 0)]
    from: u16,
}

/// What the client prints, in nanoseconds.
#[derive(Serialize, Deserialize)]
pub(super) struct RoundTrips {
    pub(super) median: f64,
    /// The 99th percentile.
    pub(super) late: f64,
}

/// Answers until it is ended.
pub(crate) fn respond(options: &Respond) -> Result<()> {
    let mut threads = Vec::new();
    for address in &options.addresses {
        for port in FIRST_DESTINATION..FIRST_DESTINATION + options.ports {
            let socket = UdpSocket::bind((*address, port)).with_context(|| format!("{address} port {port}"))?;
            threads.push(thread::Builder::new().stack_size(128 << 10).spawn(move || {
                let mut payload = [0; 2048];
                loop {
                    // An error is somebody else's: the next one is answered all the same.
                    if let Ok((length, from)) = socket.recv_from(&mut payload) {
                        let _ = socket.send_to(&payload[..length], from);
                    }
                }
            })?);
        }
    }
    threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread ended")))
}

/// Asks one question after the other.
pub(crate) fn ask_back(options: &AskBack) -> Result<()> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, options.from))?;
    let target = match options.target {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    socket.connect((target, FIRST_DESTINATION))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let (begin, lasts) = (Instant::now(), Duration::from_secs_f64(options.seconds));
    let mut times = Vec::new();
    let mut payload = [0; PAYLOAD];
    while begin.elapsed() < lasts {
        let asked = Instant::now();
        socket.send(&payload)?;
        if socket.recv(&mut payload).is_ok() {
            times.push(asked.elapsed().as_nanos() as f64);
        }
    }
    // What it takes until a flow is established is not asked for here.
    let mut times = times.split_off(times.len().min(20));
    times.sort_by(f64::total_cmp);
    if times.is_empty() {
        bail!("nobody answers");
    }
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!("{}", serde_json::to_string(&RoundTrips { median: at(0.5), late: at(0.99) })?);
    Ok(())
}
