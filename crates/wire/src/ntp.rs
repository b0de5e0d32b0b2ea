//! NTP version 4 messages as SNTP uses them: RFC 5905 section 7.3 and 14.

/// The port that servers listen on.
pub const PORT: u16 = 123;
/// Length of a message without extensions and authentication.
pub const LENGTH: usize = 48;

/// RFC 5905 section 7.3: mode 3 is a client's, mode 4 a server's.
const CLIENT: u8 = 3;
const SERVER: u8 = 4;
const VERSION: u8 = 4;
/// Seconds from 1900 to 1970.
const UNIX: u64 = 2_208_988_800;
/// Seconds of an era.
const ERA: u64 = 1 << 32;

/// A client's question. The transmit timestamp is what the answer has to repeat; it tells nobody what time it is here.
pub fn request(nonce: u64) -> [u8; LENGTH] {
    let mut message = [0; LENGTH];
    message[0] = VERSION << 3 | CLIENT;
    message[40..].copy_from_slice(&nonce.to_be_bytes());
    message
}

/// A server's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    bytes: &'a [u8; LENGTH],
}

impl<'a> Reply<'a> {
    /// Parses a datagram's payload; nothing where it is no answer of a server.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let bytes: &[u8; LENGTH] = bytes.first_chunk()?;
        let (version, mode) = (bytes[0] >> 3 & 7, bytes[0] & 7);
        ((3..=VERSION).contains(&version) && mode == SERVER).then_some(Self { bytes })
    }

    /// Leap indicator 3: the server's own clock is not synchronised.
    pub const fn is_unsynchronised(&self) -> bool {
        self.bytes[0] >> 6 == 3
    }

    /// Distance from a reference clock; 0 is a kiss of death, above 15 is nowhere.
    pub const fn stratum(&self) -> u8 {
        self.bytes[1]
    }

    /// What the question's transmit timestamp was.
    pub fn origin(&self) -> u64 {
        self.eight(24)
    }

    /// When the question arrived, in nanoseconds since 1970.
    pub fn received(&self) -> i64 {
        nanos(self.eight(32))
    }

    /// When the answer left, in nanoseconds since 1970; nothing where the server does not say.
    pub fn transmitted(&self) -> Option<i64> {
        let stamp = self.eight(40);
        (stamp != 0).then(|| nanos(stamp))
    }

    /// RFC 5905 section 7.3: how far off the server itself may be, in nanoseconds: half of the root delay and the root dispersion.
    pub fn root_distance(&self) -> i64 {
        let short = |at: usize| {
            let [a, b, c, d] = [0, 1, 2, 3].map(|index| self.bytes[at + index]);
            i64::from(u32::from_be_bytes([a, b, c, d])) * 1_000_000_000 / 65_536
        };
        short(4) / 2 + short(8)
    }

    fn eight(&self, at: usize) -> u64 {
        u64::from_be_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|index| self.bytes[at + index]))
    }
}

/// A timestamp in nanoseconds since 1970. RFC 4330 section 3: what looks like a time before 1968 is one after 2036.
fn nanos(stamp: u64) -> i64 {
    let (seconds, fraction) = (stamp >> 32, stamp & 0xffff_ffff);
    let seconds = if seconds & 0x8000_0000 == 0 { seconds + ERA } else { seconds };
    let whole = i64::try_from(seconds).unwrap_or(i64::MAX) - UNIX as i64;
    // Below 2^32 times a billion fits.
    whole * 1_000_000_000 + ((fraction * 1_000_000_000) >> 32) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(first: u8, stamp: u64) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[0] = first;
        bytes[1] = 2;
        bytes[32..40].copy_from_slice(&stamp.to_be_bytes());
        bytes[40..].copy_from_slice(&stamp.to_be_bytes());
        bytes
    }

    #[test]
    fn a_question_has_the_bytes_of_the_rfc() {
        let question = request(0x0102_0304_0506_0708);
        assert_eq!(question[0], 0x23);
        assert_eq!(question[40..], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(question[1..40].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn times_are_read_in_both_eras() {
        let unix = |seconds: u64, fraction: u64| {
            Reply::parse(&reply(0x24, seconds << 32 | fraction)).unwrap().transmitted().unwrap()
        };
        assert_eq!(unix(UNIX, 0), 0);
        assert_eq!(unix(UNIX + 1, 0x8000_0000), 1_500_000_000);
        // 2036-02-07T06:28:17Z, the second after the era's end.
        assert_eq!(unix(1, 0), 2_085_978_497_000_000_000);
    }

    #[test]
    fn what_is_no_answer_of_a_server_is_refused() {
        assert!(Reply::parse(&reply(0x24, 1)).is_some());
        assert!(Reply::parse(&reply(0x1c, 1)).is_some(), "version 3");
        for first in [0x23, 0x25, 0x14, 0x2c, 0x00] {
            assert!(Reply::parse(&reply(first, 1)).is_none(), "{first:x}");
        }
        assert!(Reply::parse(&reply(0x24, 1)[..47]).is_none());
        assert!(Reply::parse(&reply(0xe4, 1)).unwrap().is_unsynchronised());
        assert_eq!(Reply::parse(&reply(0x24, 0)).unwrap().transmitted(), None);
    }

    #[test]
    fn the_root_distance_counts_half_the_delay() {
        let mut bytes = reply(0x24, 1);
        bytes[4..8].copy_from_slice(&[0, 2, 0, 0]);
        bytes[8..12].copy_from_slice(&[0, 0, 0x80, 0]);
        assert_eq!(Reply::parse(&bytes).unwrap().root_distance(), 1_500_000_000);
    }
}
