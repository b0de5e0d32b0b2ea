//! The other end of a machine's uplink, frame by frame and without root: a gateway that answers ARP, and time servers behind it.
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use sixgate_qemu::Link;

use crate::server::Thread;

/// Seconds from 1900 to 1970.
const UNIX: u64 = 2_208_988_800;
const MAC: [u8; 6] = [0x52, 0x54, 0, 0xaa, 0, 1];
const ETHERNET: usize = 14;
const ARP_LENGTH: usize = ETHERNET + 28;
/// IPv4 without options, UDP, NTP.
const NTP_LENGTH: usize = ETHERNET + 20 + 8 + 48;

/// A gateway, while it lives.
pub(super) struct Provider(#[expect(dead_code, reason = "it lives as long as its owner")] Thread);

impl Provider {
    /// Has that address; whatever other address is asked for the time answers with the host's.
    pub(super) fn start(cable: &Link, gateway: Ipv4Addr) -> Result<Self> {
        let Link::Cable(cable) = cable else { bail!("a cable is wanted") };
        let cable: OwnedFd = cable.try_clone()?;
        Ok(Self(Thread::start(move |stop| {
            let mut frame = [0; 2048];
            while stop.readable(&cable) {
                let Ok(length) = rustix::io::read(&cable, &mut frame) else { return };
                if let Some(answer) = answer(&frame[..length], gateway) {
                    // A machine that has ended takes no answers.
                    let _ = rustix::io::write(&cable, &answer);
                }
            }
        })?))
    }
}

fn answer(frame: &[u8], gateway: Ipv4Addr) -> Option<Vec<u8>> {
    match frame.get(12..14)? {
        [8, 6] => resolve(frame.get(..ARP_LENGTH)?, gateway),
        [8, 0] => tell_time(frame.get(..NTP_LENGTH)?),
        _ => None,
    }
}

/// RFC 826: who has the gateway's address.
fn resolve(request: &[u8], gateway: Ipv4Addr) -> Option<Vec<u8>> {
    const REQUEST: [u8; 2] = [0, 1];
    if request[20..22] != REQUEST || request[38..42] != gateway.octets() {
        return None;
    }
    let mut reply = request.to_vec();
    reply[..6].copy_from_slice(&request[6..12]);
    reply[6..12].copy_from_slice(&MAC);
    reply[21] = 2;
    // Target: who asked. Sender: the gateway.
    reply[32..42].copy_from_slice(&request[22..32]);
    reply[22..28].copy_from_slice(&MAC);
    reply[28..32].copy_from_slice(&gateway.octets());
    Some(reply)
}

/// RFC 5905: the host's time, as a server of stratum 2.
fn tell_time(question: &[u8]) -> Option<Vec<u8>> {
    const NTP: [u8; 2] = 123_u16.to_be_bytes();
    let is_question = question[ETHERNET] == 0x45 && question[ETHERNET + 9] == 17 && question[36..38] == NTP;
    if !is_question {
        return None;
    }
    let mut answer = question.to_vec();
    answer[..6].copy_from_slice(&question[6..12]);
    answer[6..12].copy_from_slice(&MAC);
    // Exchanged addresses have the same checksum.
    answer[26..30].copy_from_slice(&question[30..34]);
    answer[30..34].copy_from_slice(&question[26..30]);
    answer[34..36].copy_from_slice(&question[36..38]);
    answer[36..38].copy_from_slice(&question[34..36]);
    // RFC 768: none.
    answer[40..42].fill(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let fraction = (u64::from(now.subsec_nanos()) << 32) / 1_000_000_000;
    let stamp = ((now.as_secs() + UNIX) << 32 | fraction).to_be_bytes();
    let (ntp, asked) = (&mut answer[42..], &question[42..]);
    ntp.fill(0);
    ntp[..2].copy_from_slice(&[0x24, 2]);
    ntp[24..32].copy_from_slice(&asked[40..48]);
    ntp[32..40].copy_from_slice(&stamp);
    ntp[40..48].copy_from_slice(&stamp);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    #[test]
    fn only_the_gateways_address_is_resolved() {
        let mut request = vec![0; 60];
        request[12..14].copy_from_slice(&[8, 6]);
        request[21] = 1;
        request[22..28].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        request[28..32].copy_from_slice(&[192, 0, 2, 2]);
        request[38..42].copy_from_slice(&GATEWAY.octets());
        let reply = answer(&request, GATEWAY).unwrap();
        assert_eq!((reply[21], &reply[22..28], &reply[38..42]), (2, &MAC[..], &[192, 0, 2, 2][..]));
        request[41] = 7;
        assert_eq!(answer(&request, GATEWAY), None);
        assert_eq!(answer(&request[..30], GATEWAY), None);
    }
}
