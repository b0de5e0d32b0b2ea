//! A DHCPv6 server that gives whatever it is told to, several prefixes at once, and has its client ask again by
//! Reconfigure: what no server in Debian does. It is written apart from the router's own code.
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use hmac::{Hmac, Mac};
use md5::Md5;

use super::Thread;
use crate::namespace::Namespace;

const DUID: [u8; 10] = [0, 3, 0, 1, 0x52, 0x54, 0, 0, 1, 0xff];
const SECRET: [u8; 16] = *b"sixteen guesses!";
/// RFC 8415 section 7.3.
pub const RENEW: u8 = 5;
/// See [`RENEW`].
pub const REBIND: u8 = 6;
const SOLICIT: u8 = 1;
const REPLY: u8 = 7;
const RECONFIGURE: u8 = 10;

/// A prefix of 56 bits with preferred and valid lifetime in seconds.
pub type Given = (Ipv6Addr, u32, u32);

#[derive(Debug, Default)]
struct State {
    given: Vec<Given>,
    /// Where the client is, and who.
    client: Option<(SocketAddr, Vec<u8>)>,
    asked: Vec<u8>,
    replay: u64,
}

/// The server; dropping it ends it.
#[derive(Debug)]
pub struct Delegator {
    socket: Arc<UdpSocket>,
    state: Arc<Mutex<State>>,
    _thread: Thread,
}

impl Delegator {
    /// Serves on `eth0` of a namespace.
    pub fn start(host: &Namespace, given: &[Given]) -> Result<Self> {
        let socket = host.inside(|| -> Result<UdpSocket> {
            let link: u32 = std::fs::read_to_string("/proc/thread-self/net/if_inet6")?
                .lines()
                .find(|line| line.ends_with(" eth0"))
                .and_then(|line| u32::from_str_radix(line.split_whitespace().nth(1)?, 16).ok())
                .context("eth0 has no address")?;
            let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 547)).context("UDP port 547")?;
            socket.join_multicast_v6(&Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2), link)?;
            Ok(socket)
        })?;
        let socket = Arc::new(socket);
        let state = Arc::new(Mutex::new(State { given: given.to_vec(), ..State::default() }));
        let (ear, held) = (Arc::clone(&socket), Arc::clone(&state));
        let thread = Thread::start(move |stop| {
            let mut buffer = [0; 2048];
            while stop.readable(&*ear) {
                let Ok((length, peer)) = ear.recv_from(&mut buffer) else { continue };
                let mut state = held.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(answer) = state.answer(&buffer[..length], peer) {
                    let _ = ear.send_to(&answer, peer);
                }
            }
        })?;
        Ok(Self { socket, state, _thread: thread })
    }

    /// What it gives from now on.
    pub fn give(&self, given: &[Given]) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).given = given.to_vec();
    }

    /// Types of the messages that it was asked by.
    pub fn asked(&self) -> Vec<u8> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).asked.clone()
    }

    /// Has the client send that message, by the key that it was given, or by another one.
    pub fn reconfigure(&self, asked: u8, key: &[u8]) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (peer, duid) = state.client.clone().context("a client")?;
        state.replay += 1;
        let mut message = vec![RECONFIGURE, 0, 0, 0];
        option(&mut message, 1, &duid);
        option(&mut message, 2, &DUID);
        option(&mut message, 19, &[asked]);
        option(&mut message, 11, &authentication(state.replay, 2, [0; 16]));
        let mut mac = Hmac::<Md5>::new_from_slice(key).ok().context("a key of any length")?;
        mac.update(&message);
        let digest = message.len() - 16;
        message[digest..].copy_from_slice(&mac.finalize().into_bytes());
        self.socket.send_to(&message, peer)?;
        Ok(())
    }
}

/// The key that the server gives its clients.
pub const KEY: &[u8] = &SECRET;

fn option(message: &mut Vec<u8>, code: u16, value: &[u8]) {
    message.extend(code.to_be_bytes());
    message.extend(u16::try_from(value.len()).unwrap_or_default().to_be_bytes());
    message.extend(value);
}

/// RFC 8415 sections 20.4 and 21.11: protocol 3, algorithm 1, RDM 0.
fn authentication(replay: u64, kind: u8, value: [u8; 16]) -> Vec<u8> {
    [&[3, 1, 0][..], &replay.to_be_bytes(), &[kind], &value].concat()
}

impl State {
    fn answer(&mut self, message: &[u8], peer: SocketAddr) -> Option<Vec<u8>> {
        let (&[kind, a, b, c], mut rest) = message.split_first_chunk::<4>()?;
        let (mut duid, mut addresses, mut prefixes) = (None, None, None);
        let mut held = Vec::new();
        while let Some((&[c0, c1, l0, l1], more)) = rest.split_first_chunk::<4>() {
            let (value, more) = more.split_at_checked(u16::from_be_bytes([l0, l1]).into())?;
            match u16::from_be_bytes([c0, c1]) {
                1 => duid = Some(value.to_vec()),
                3 => addresses = value.get(..4).map(<[u8]>::to_vec),
                25 => {
                    prefixes = value.get(..4).map(<[u8]>::to_vec);
                    // IA Prefix: 4 bytes of header, 8 of lifetimes, the length, the prefix.
                    held = value.get(12..)?.chunks_exact(29).map(|prefix| prefix[13..29].to_vec()).collect();
                }
                _ => {}
            }
            rest = more;
        }
        if !matches!(kind, SOLICIT | 3..=6) {
            return None;
        }
        let duid = duid?;
        self.asked.push(kind);
        self.client = Some((peer, duid.clone()));
        let mut reply = vec![REPLY, a, b, c];
        option(&mut reply, 1, &duid);
        option(&mut reply, 2, &DUID);
        if kind == SOLICIT {
            option(&mut reply, 14, &[]);
            // RFC 8415 section 20.4.2: the key goes with the first Reply.
            option(&mut reply, 20, &[]);
            option(&mut reply, 11, &authentication(self.replay, 1, SECRET));
        }
        if let Some(id) = addresses {
            let mut status = Vec::new();
            option(&mut status, 13, &[0, 2]);
            option(&mut reply, 3, &[id.as_slice(), &[0; 8], &status].concat());
        }
        if let Some(id) = prefixes {
            // Nobody asks by itself before a quarter of an hour has passed.
            let mut association = [id.as_slice(), &900_u32.to_be_bytes(), &1200_u32.to_be_bytes()].concat();
            let gone =
                held.iter().filter_map(|octets| Some(Ipv6Addr::from(<[u8; 16]>::try_from(octets.as_slice()).ok()?)));
            let gone =
                gone.filter(|prefix| !prefix.is_unspecified() && !self.given.iter().any(|given| given.0 == *prefix));
            let all = self.given.iter().copied().chain(gone.map(|prefix| (prefix, 0, 0)));
            for (prefix, preferred, valid) in all {
                let value = [&preferred.to_be_bytes()[..], &valid.to_be_bytes(), &[56], &prefix.octets()].concat();
                option(&mut association, 26, &value);
            }
            option(&mut reply, 25, &association);
        }
        Some(reply)
    }
}
