//! Blocks of a pcapng file (draft-ietf-opsawg-pcapng), in little endian, with times in nanoseconds.

/// LINKTYPE_ETHERNET.
const ETHERNET: u16 = 1;
/// LINKTYPE_RAW: packets begin with the header of IPv4 or IPv6.
const RAW: u16 = 101;

/// A packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Number of its interface, in the order in which they were described.
    pub interface: u32,
    /// Nanoseconds since 1970.
    pub time: u64,
    /// Its length on the wire.
    pub length: usize,
    /// It was sent rather than received.
    pub sent: bool,
    /// What is kept of it.
    pub bytes: &'a [u8],
}

/// The file's beginning.
pub fn section(application: &str) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(0x1a2b_3c4d_u32.to_le_bytes());
    body.extend(1_u16.to_le_bytes());
    body.extend(0_u16.to_le_bytes());
    // The section's length is not known.
    body.extend(u64::MAX.to_le_bytes());
    option(&mut body, 4, application.as_bytes());
    end_of_options(&mut body);
    block(0x0a0d_0d0a, &body)
}

/// Describes an interface.
pub fn interface(name: &str, ethernet: bool, snap: u32) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(if ethernet { ETHERNET } else { RAW }.to_le_bytes());
    body.extend(0_u16.to_le_bytes());
    body.extend(snap.to_le_bytes());
    option(&mut body, 2, name.as_bytes());
    // if_tsresol: 10 to the power of -9 seconds.
    option(&mut body, 9, &[9]);
    end_of_options(&mut body);
    block(1, &body)
}

/// A packet's block.
pub fn packet(packet: &Packet<'_>) -> Vec<u8> {
    let mut body = Vec::with_capacity(packet.bytes.len() + 40);
    body.extend(packet.interface.to_le_bytes());
    time(&mut body, packet.time);
    body.extend(length(packet.bytes.len()).to_le_bytes());
    body.extend(length(packet.length).to_le_bytes());
    body.extend(packet.bytes);
    pad(&mut body);
    // epb_flags: inbound, outbound.
    option(&mut body, 2, &if packet.sent { 2_u32 } else { 1 }.to_le_bytes());
    end_of_options(&mut body);
    block(6, &body)
}

/// What came of the capture on an interface: packets seen, and packets lost because the reader was too slow.
pub fn statistics(interface: u32, at: u64, seen: u64, lost: u64) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(interface.to_le_bytes());
    time(&mut body, at);
    option(&mut body, 4, &seen.to_le_bytes());
    option(&mut body, 5, &lost.to_le_bytes());
    end_of_options(&mut body);
    block(5, &body)
}

fn time(body: &mut Vec<u8>, time: u64) {
    body.extend(((time >> 32) as u32).to_le_bytes());
    body.extend((time as u32).to_le_bytes());
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..value.len().min(usize::from(u16::MAX))).unwrap_or_default();
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend(value);
    pad(body);
}

fn end_of_options(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

/// Everything begins at a multiple of four bytes.
fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let total = length(body.len() + 12).to_le_bytes();
    [&kind.to_le_bytes()[..], &total, body, &total].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kind and length of each block; both lengths of a block have to be the same.
    fn blocks(mut file: &[u8]) -> Vec<(u32, usize)> {
        let mut found = Vec::new();
        while !file.is_empty() {
            let word = |at: usize| u32::from_le_bytes(*file[at..].first_chunk().unwrap());
            let length = word(4) as usize;
            assert_eq!(length % 4, 0);
            assert_eq!(word(length - 4) as usize, length);
            found.push((word(0), length));
            file = &file[length..];
        }
        found
    }

    #[test]
    fn a_file_is_a_chain_of_blocks_of_whole_words() {
        let mut file = section("sixgate");
        file.extend(interface("eth1", true, 65_535));
        for bytes in [&[][..], &[1], &[1, 2, 3, 4], &[7; 1501]] {
            let one = Packet { interface: 0, time: 1 << 60, length: 1501, sent: bytes.is_empty(), bytes };
            file.extend(packet(&one));
        }
        file.extend(statistics(0, 1 << 60, 4, 2));
        let kinds: Vec<_> = blocks(&file).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [0x0a0d_0d0a, 1, 6, 6, 6, 6, 5]);
    }

    #[test]
    fn time_stands_high_word_first() {
        let bytes = packet(&Packet { interface: 3, time: 0x0102_0304_0506_0708, length: 0, sent: true, bytes: &[] });
        assert_eq!(bytes[8..20], [3, 0, 0, 0, 4, 3, 2, 1, 8, 7, 6, 5]);
    }
}
