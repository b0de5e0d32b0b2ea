//! A GUID partition table with its protective MBR, as the UEFI specification (2.10, section 5) has it; the same partitions give the same bytes.
use flate2::Crc;

/// Bytes of a sector.
pub(crate) const SECTOR: u64 = 512;

/// Entries of the table, which the specification wants at least.
const ENTRIES: u32 = 128;
const ENTRY: u32 = 128;
/// Sectors of the table's entries.
const TABLE: u64 = (ENTRIES * ENTRY) as u64 / SECTOR;

/// The disk's own identifier. All images have the same one: nothing looks disks up by it.
const DISK: &str = "6f1f5a5e-64d0-4c0e-9a35-7369786761e0";

/// What a partition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// GRUB's core image, for firmware of the old kind.
    BiosBoot,
    /// The EFI system partition.
    Efi,
    /// Data of Linux.
    Linux,
}

impl Kind {
    fn guid(self) -> &'static str {
        match self {
            Self::BiosBoot => "21686148-6449-6e6f-744e-656564454649",
            Self::Efi => "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
            Self::Linux => "0fc63daf-8483-4772-8e79-3d69d8477de4",
        }
    }
}

/// A partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partition {
    pub(crate) kind: Kind,
    /// The kernel tells it as PARTNAME.
    pub(crate) name: &'static str,
    pub(crate) guid: &'static str,
    pub(crate) first: u64,
    pub(crate) sectors: u64,
}

/// The first sectors of a disk and its last ones.
pub(crate) struct Tables {
    pub(crate) head: Vec<u8>,
    /// Begins at sector [`Tables::tail_at`].
    pub(crate) tail: Vec<u8>,
    pub(crate) tail_at: u64,
}

/// Writes the tables of a disk with so many sectors. Boot code of the MBR, if any, comes on top.
pub(crate) fn tables(partitions: &[Partition], sectors: u64) -> Tables {
    let mut entries = Vec::new();
    for partition in partitions {
        entries.extend(guid(partition.kind.guid()));
        entries.extend(guid(partition.guid));
        entries.extend(partition.first.to_le_bytes());
        entries.extend((partition.first + partition.sectors - 1).to_le_bytes());
        entries.extend(0_u64.to_le_bytes());
        let mut name: Vec<u8> = partition.name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        name.resize(72, 0);
        entries.extend(name);
    }
    entries.resize((ENTRIES * ENTRY) as usize, 0);

    let last = sectors - 1;
    let tail_at = last - TABLE;
    let mut head = protective_mbr(sectors);
    head.extend(header(1, last, 2, sectors, &entries));
    head.extend(&entries);
    let mut tail = entries.clone();
    tail.extend(header(last, 1, tail_at, sectors, &entries));
    Tables { head, tail, tail_at }
}

fn header(here: u64, other: u64, table: u64, sectors: u64, entries: &[u8]) -> Vec<u8> {
    let mut header = Vec::with_capacity(SECTOR as usize);
    header.extend(b"EFI PART");
    header.extend(0x0001_0000_u32.to_le_bytes());
    header.extend(92_u32.to_le_bytes());
    header.extend([0; 8]); // its checksum, then reserved
    header.extend(here.to_le_bytes());
    header.extend(other.to_le_bytes());
    header.extend((2 + TABLE).to_le_bytes());
    header.extend((sectors - TABLE - 2).to_le_bytes());
    header.extend(guid(DISK));
    header.extend(table.to_le_bytes());
    header.extend(ENTRIES.to_le_bytes());
    header.extend(ENTRY.to_le_bytes());
    header.extend(crc(entries).to_le_bytes());
    let sum = crc(&header);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    header.resize(SECTOR as usize, 0);
    header
}

/// Tells programs that know no GUID partition table that the disk is taken.
fn protective_mbr(sectors: u64) -> Vec<u8> {
    let mut mbr = vec![0; SECTOR as usize];
    let size = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
    mbr[446..454].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
    mbr[454..458].copy_from_slice(&1_u32.to_le_bytes());
    mbr[458..462].copy_from_slice(&size.to_le_bytes());
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    mbr
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// A GUID as it stands on a disk: its first three fields are little-endian.
fn guid(text: &str) -> [u8; 16] {
    let digits: String = text.split('-').collect();
    let number = u128::from_str_radix(&digits, 16).expect("a constant of this file or of the layout");
    let mut bytes = number.to_be_bytes();
    bytes[0..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_stand_on_the_disk_as_the_specification_has_it() {
        assert_eq!(
            guid(Kind::Efi.guid()),
            [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b]
        );
    }

    #[test]
    fn both_headers_name_one_another_and_have_their_checksum() {
        let partition = Partition { kind: Kind::Linux, name: "x", guid: DISK, first: 2048, sectors: 8 };
        let tables = tables(&[partition], 4096);
        assert_eq!(tables.head.len() as u64, (2 + TABLE) * SECTOR);
        let first = &tables.head[512..1024];
        let last = &tables.tail[tables.tail.len() - 512..];
        assert_eq!(tables.tail_at + tables.tail.len() as u64 / SECTOR, 4096);
        for (header, here, other) in [(first, 1_u64, 4095_u64), (last, 4095, 1)] {
            assert_eq!((&header[24..32], &header[32..40]), (&here.to_le_bytes()[..], &other.to_le_bytes()[..]));
            let mut plain = header[..92].to_vec();
            plain[16..20].fill(0);
            assert_eq!(header[16..20], crc(&plain).to_le_bytes());
        }
    }
}
