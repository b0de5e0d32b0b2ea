//! What a segment's capture says of when something was on the wire.
use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv6Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::wait;

/// pcap's header of a file, and of a packet.
const FILE: usize = 24;
const PACKET: usize = 16;

/// When the first frame that fits was seen, as time of day. A capture is written with some delay: it is waited for.
pub fn first(capture: &Path, what: &str, deadline: Duration, fits: impl Fn(&[u8]) -> bool) -> Result<Duration> {
    wait::until(&format!("{what} in {}", capture.display()), deadline, || {
        let bytes = fs::read(capture).ok()?;
        frames(&bytes).find(|(_, frame)| fits(frame)).map(|(time, _)| time)
    })
    .with_context(|| capture.display().to_string())
}

/// Times and frames, as far as they are written.
fn frames(bytes: &[u8]) -> impl Iterator<Item = (Duration, &[u8])> {
    let mut rest = bytes.get(FILE..).unwrap_or_default();
    std::iter::from_fn(move || {
        let header = rest.get(..PACKET)?;
        let word = |at: usize| Some(u32::from_ne_bytes(header.get(at..at + 4)?.try_into().ok()?));
        let (seconds, micros, length) = (word(0)?, word(4)?, usize::try_from(word(8)?).ok()?);
        let frame = rest.get(PACKET..PACKET + length)?;
        rest = &rest[PACKET + length..];
        Some((Duration::new(seconds.into(), micros * 1000), frame))
    })
}

/// Addresses that were asked for by Neighbor Solicitations so far.
pub fn solicited(capture: &Path) -> Result<BTreeSet<Ipv6Addr>> {
    const ICMPV6: usize = 14 + 40;
    let bytes = fs::read(capture).with_context(|| capture.display().to_string())?;
    let target = |frame: &[u8]| {
        let is_solicitation = frame.get(20) == Some(&58) && frame.get(ICMPV6) == Some(&135);
        let octets: [u8; 16] = frame.get(ICMPV6 + 8..ICMPV6 + 24)?.try_into().ok()?;
        is_solicitation.then(|| Ipv6Addr::from(octets))
    };
    Ok(frames(&bytes).filter_map(|(_, frame)| target(frame)).collect())
}

/// A DHCPv6 Reply that speaks of these bytes.
pub fn is_reply(frame: &[u8], bytes: &[u8]) -> bool {
    const UDP: usize = 14 + 40;
    let to_client = frame.get(20) == Some(&17) && frame.get(UDP + 2..UDP + 4) == Some(&546_u16.to_be_bytes());
    to_client && frame.get(UDP + 8) == Some(&7) && contains(frame, bytes)
}

/// A router advertisement that speaks of these bytes.
pub fn is_advertisement(frame: &[u8], bytes: &[u8]) -> bool {
    frame.get(20) == Some(&58) && frame.get(14 + 40) == Some(&134) && contains(frame, bytes)
}

fn contains(frame: &[u8], bytes: &[u8]) -> bool {
    frame.windows(bytes.len()).any(|window| window == bytes)
}
