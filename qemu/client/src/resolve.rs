//! One question to the resolver that was advertised: the IPv6 address of a name.
use std::net::{Ipv6Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};

/// How long an answer may take, and how often is asked.
const PATIENCE: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 3;

/// Asks for AAAA and returns the first address.
pub(crate) fn ipv6_address(name: &str, resolver: Ipv6Addr) -> Result<Ipv6Addr> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
    socket.connect((resolver, 53)).with_context(|| format!("no way to the resolver {resolver}"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(Name::from_ascii(name).context("not a name")?, RecordType::AAAA));
    let bytes = question.to_vec()?;
    let mut answer = [0; 4096];
    let mut trouble = None;
    for _ in 0..ATTEMPTS {
        let received = socket.send(&bytes).and_then(|_| socket.recv(&mut answer));
        match received {
            Ok(length) => return first_address(&answer[..length], question.metadata.id),
            Err(error) => trouble = Some(error),
        }
    }
    match trouble {
        Some(error) => Err(error).with_context(|| format!("the resolver {resolver} does not answer")),
        None => bail!("the resolver {resolver} was not asked"),
    }
}

fn first_address(bytes: &[u8], id: u16) -> Result<Ipv6Addr> {
    let message = Message::from_vec(bytes).context("the resolver's answer cannot be read")?;
    if message.metadata.id != id {
        bail!("the resolver answered another question");
    }
    let address = message.answers.iter().find_map(|record| match &record.data {
        RData::AAAA(address) => Some(address.0),
        _ => None,
    });
    address.with_context(|| format!("the resolver says {} and has no IPv6 address", message.metadata.response_code))
}
