//! A small ISO 9660 volume: a label, and files in its root, as a cloud-init drive has them.

const SECTOR: usize = 2048;

/// Emits a volume. Names are stored as they are, which Linux reads back in lower case.
pub(super) fn volume(label: &str, files: &[(&str, &str)]) -> Vec<u8> {
    let (descriptor_at, root_at) = (16, 18);
    let mut sectors = vec![vec![0; SECTOR]; root_at + 1];
    let mut root = Vec::new();
    root.extend(record(&[0], root_at, SECTOR, true));
    root.extend(record(&[1], root_at, SECTOR, true));
    for (name, content) in files {
        let at = sectors.len();
        root.extend(record(format!("{name};1").as_bytes(), at, content.len(), false));
        let mut bytes = content.as_bytes().to_vec();
        bytes.resize(content.len().next_multiple_of(SECTOR).max(SECTOR), 0);
        sectors.extend(bytes.chunks(SECTOR).map(<[u8]>::to_vec));
    }
    sectors[root_at][..root.len()].copy_from_slice(&root);

    let mut descriptor = vec![0; SECTOR];
    descriptor[..7].copy_from_slice(b"\x01CD001\x01");
    descriptor[8..72].fill(b' ');
    descriptor[40..40 + label.len()].copy_from_slice(label.as_bytes());
    descriptor[80..88].copy_from_slice(&both(sectors.len()));
    descriptor[120..124].copy_from_slice(&both_short(1));
    descriptor[124..128].copy_from_slice(&both_short(1));
    descriptor[128..132].copy_from_slice(&both_short(SECTOR));
    descriptor[156..190].copy_from_slice(&record(&[0], root_at, SECTOR, true));
    descriptor[881] = 1;
    sectors[descriptor_at] = descriptor;
    sectors[descriptor_at + 1][..7].copy_from_slice(b"\xffCD001\x01");
    sectors.concat()
}

/// A directory record (ECMA-119 section 9.1).
fn record(name: &[u8], at: usize, length: usize, folder: bool) -> Vec<u8> {
    let size = (33 + name.len()).next_multiple_of(2);
    let mut record = vec![0; size];
    record[0] = size as u8;
    record[2..10].copy_from_slice(&both(at));
    record[10..18].copy_from_slice(&both(length));
    record[18..25].copy_from_slice(&[126, 1, 1, 0, 0, 0, 0]);
    record[25] = if folder { 2 } else { 0 };
    record[28..32].copy_from_slice(&both_short(1));
    record[32] = name.len() as u8;
    record[33..33 + name.len()].copy_from_slice(name);
    record
}

/// A number in both orders of bytes.
fn both(number: usize) -> [u8; 8] {
    let number = number as u32;
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn both_short(number: usize) -> [u8; 4] {
    let number = number as u16;
    let (little, big) = (number.to_le_bytes(), number.to_be_bytes());
    [little[0], little[1], big[0], big[1]]
}
