//! The CLAT's programs and what their maps hold, byte by byte; `program/clat.c` has the same in C.
use core::net::{Ipv4Addr, Ipv6Addr};

use sixgate_wire::rfc6052::Pref64;

use crate::Object;

/// The compiled programs, an ELF file.
pub static OBJECT: &Object<[u8]> = &Object(*include_bytes!(concat!(env!("OUT_DIR"), "/clat.o")));

/// Where IPv4 leaves by the TUN device.
pub const OUT: &str = "clat_out";
/// Where the uplink's packets come in.
pub const IN: &str = "clat_in";
/// What the programs are told.
pub const SETTINGS: &str = "clat_settings";
/// What they count.
pub const COUNTERS: &str = "clat_counters";

/// Bytes of the value of [`SETTINGS`].
pub const SETTINGS_LENGTH: usize = 80;
/// Words of the value of [`COUNTERS`].
pub const COUNTER_WORDS: usize = 7;

/// What the programs go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The CLAT's IPv6 address.
    pub address: Ipv6Addr,
    /// The PLAT's prefix.
    pub pref64: Pref64,
    /// The CLAT's IPv4 address.
    pub host: Ipv4Addr,
    /// Kernel interface index of the TUN device.
    pub device: u32,
    /// Kernel interface index of the uplink.
    pub uplink: u32,
    /// Flags of `bpf_fib_lookup`.
    pub fib_flags: u32,
    /// MTU of packets to IPv4.
    pub mtu_v4: u16,
    /// MTU of packets to IPv6.
    pub mtu_v6: u16,
    /// And of those whose sender has not forbidden fragments.
    pub mtu_v6_without_df: u16,
    /// How many hops the way through here counts as.
    pub hops: u8,
    /// The least hop limit or TTL of what is translated here.
    pub least_hops: u8,
    /// Identifier of the translator's own echo requests.
    pub identifier: u16,
    /// Of a shared address, the first port that is the CLAT's.
    pub first_port: Option<u16>,
    /// Bytes before the IP header of what leaves by the device.
    pub link_header: u8,
}

impl Settings {
    /// As the programs read it.
    pub fn emit(&self) -> [u8; SETTINGS_LENGTH] {
        // Octets of the address that lie in the first half, and how far the others are from the end.
        let (in_first, low_shift) = match self.pref64.length() {
            32 => (4, 0),
            40 => (3, 48),
            48 => (2, 40),
            56 => (1, 32),
            64 => (0, 24),
            _ => (0, 0),
        };
        let high_shift = 32 - 8 * in_first;
        let low_mask = u32::MAX.checked_shr(u32::from(8 * in_first)).unwrap_or(0);
        let [high, low] = halves(self.pref64.prefix());
        let mut bytes = [0; SETTINGS_LENGTH];
        let mut at = 0;
        let mut put = |word: &[u8]| {
            bytes[at..at + word.len()].copy_from_slice(word);
            at += word.len();
        };
        put(&self.address.octets());
        put(&high.to_ne_bytes());
        put(&low.to_ne_bytes());
        put(&low_mask.to_ne_bytes());
        put(&[high_shift, low_shift, self.hops, self.least_hops]);
        put(&self.host.octets());
        for number in [self.device, self.uplink, self.fib_flags] {
            put(&number.to_ne_bytes());
        }
        for number in [self.mtu_v4, self.mtu_v6, self.mtu_v6_without_df] {
            put(&number.to_ne_bytes());
        }
        put(&self.identifier.to_be_bytes());
        put(&self.first_port.unwrap_or(0).to_ne_bytes());
        put(&[self.link_header, u8::from(self.pref64 == Pref64::WELL_KNOWN), 1]);
        bytes
    }
}

fn halves(address: Ipv6Addr) -> [u64; 2] {
    let bits = address.to_bits();
    [(bits >> 64) as u64, bits as u64]
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets, as many as on the wire.
    pub packets: u64,
    /// Their bytes before the translation.
    pub bytes: u64,
}

/// What the programs have counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Translated from IPv4 to IPv6.
    pub v4_to_v6: Traffic,
    /// Translated from IPv6 to IPv4.
    pub v6_to_v4: Traffic,
    /// Left to the translator, of both directions.
    pub left: u64,
    /// Lost, since the kernel refused in the middle of the translation.
    pub failed: u64,
}

impl Counters {
    /// The sum of what each processor has counted.
    pub fn sum<'a>(values: impl IntoIterator<Item = &'a [u64; COUNTER_WORDS]>) -> Self {
        let mut sum = Self::default();
        for [to_v6, to_v6_bytes, to_v4, to_v4_bytes, left_v4, left_v6, failed] in values {
            sum.v4_to_v6.packets += to_v6;
            sum.v4_to_v6.bytes += to_v6_bytes;
            sum.v6_to_v4.packets += to_v4;
            sum.v6_to_v4.bytes += to_v4_bytes;
            sum.left += left_v4 + left_v6;
            sum.failed += failed;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(prefix: &str, length: u8) -> Settings {
        Settings {
            address: "2001:db8:1::9".parse().unwrap(),
            pref64: Pref64::new(prefix.parse().unwrap(), length).unwrap(),
            host: Ipv4Addr::new(192, 0, 0, 1),
            device: 5,
            uplink: 2,
            fib_flags: 0,
            mtu_v4: 1480,
            mtu_v6: 1500,
            mtu_v6_without_df: 1280,
            hops: 2,
            least_hops: 3,
            identifier: 0x1234,
            first_port: Some(61_000),
            link_header: 0,
        }
    }

    #[test]
    fn an_address_goes_where_rfc_6052_says() {
        let v4 = Ipv4Addr::new(192, 0, 2, 33);
        for (prefix, length) in [
            ("2001:db8::", 32),
            ("2001:db8:100::", 40),
            ("2001:db8:122::", 48),
            ("2001:db8:122:300::", 56),
            ("2001:db8:122:344::", 64),
            ("2001:db8:122:344::", 96),
        ] {
            let settings = settings(prefix, length);
            let bytes = settings.emit();
            let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
            let mask = u32::from_ne_bytes(bytes[32..36].try_into().unwrap());
            let high = word(16) | u64::from(v4.to_bits()) >> bytes[36];
            let low = word(24) | u64::from(v4.to_bits() & mask) << bytes[37];
            let embedded = Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low));
            assert_eq!(embedded, settings.pref64.embed(v4), "{length}");
        }
    }

    #[test]
    fn what_is_small_comes_last() {
        let bytes = settings("64:ff9b::", 96).emit();
        assert_eq!(bytes[40..44], [192, 0, 0, 1]);
        assert_eq!(bytes[62..64], [0x12, 0x34]);
        assert_eq!(bytes[64..66], 61_000u16.to_ne_bytes());
        assert_eq!(bytes[66..69], [0, 1, 1]);
    }

    #[test]
    fn counters_of_several_processors_are_added() {
        let sum = Counters::sum([&[1, 2, 3, 4, 5, 6, 7], &[1, 2, 3, 4, 5, 6, 7]]);
        let (v4_to_v6, v6_to_v4) = (Traffic { packets: 2, bytes: 4 }, Traffic { packets: 6, bytes: 8 });
        assert_eq!(sum, Counters { v4_to_v6, v6_to_v4, left: 22, failed: 14 });
    }
}
