//! FAT16 file systems with fixed times and identifiers; the same files give the same bytes, each file in one piece.
//!
//! Both firmwares' loaders read it, and it needs no tool to write it. Names are short ones (8.3), lower case.
use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};

const SECTOR: usize = 512;
const RESERVED: usize = 1;
const COPIES: usize = 2;
const ROOT_ENTRIES: usize = 512;
const ENTRY: usize = 32;
/// 2026-01-01, 00:00, of everything.
const DATE: u16 = (2026 - 1980) << 9 | 1 << 5 | 1;
/// Name and extension are shown in lower case, which is how Windows NT and Linux mark it.
const LOWER_CASE: u8 = 0x18;
const DIRECTORY: u8 = 0x10;
const VOLUME: u8 = 0x08;
const END_OF_CHAIN: u16 = 0xffff;

/// A file system in the making.
pub(crate) struct Fat {
    label: [u8; 11],
    identifier: u32,
    sectors: usize,
    cluster: usize,
    /// In the order in which their contents are laid out.
    files: Vec<(String, Vec<u8>)>,
}

#[derive(Default)]
struct Folder {
    folders: BTreeMap<String, Folder>,
    files: BTreeMap<String, (u16, u32)>,
}

impl Fat {
    /// An empty file system of so many bytes, with clusters of so many.
    pub(crate) fn new(label: &str, identifier: u32, bytes: u64, cluster: usize) -> Self {
        let mut padded = [b' '; 11];
        padded[..label.len()].copy_from_slice(label.as_bytes());
        let sectors = usize::try_from(bytes).expect("an image fits into memory") / SECTOR;
        Self { label: padded, identifier, sectors, cluster, files: Vec::new() }
    }

    /// Adds a file; folders come by themselves.
    pub(crate) fn add(&mut self, path: &str, content: Vec<u8>) {
        self.files.push((path.to_owned(), content));
    }

    /// Emits the file system up to its last used cluster; what would follow is zeros.
    pub(crate) fn emit(&self) -> Result<Vec<u8>> {
        let (table, clusters) = self.geometry()?;
        let data = (RESERVED + COPIES * table + ROOT_ENTRIES * ENTRY / SECTOR) * SECTOR;
        let mut writer = Writer { cluster: self.cluster, chains: vec![0xfff8, END_OF_CHAIN], content: Vec::new() };
        let mut root = Folder::default();
        for (path, content) in &self.files {
            let size = u32::try_from(content.len())?;
            let first = if content.is_empty() { 0 } else { writer.store(content)? };
            let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
            let folder = folders
                .split('/')
                .filter(|name| !name.is_empty())
                .fold(&mut root, |folder, name| folder.folders.entry(name.to_owned()).or_default());
            folder.files.insert(name.to_owned(), (first, size));
        }
        let mut entries = entry(&self.label, VOLUME, 0, 0).to_vec();
        entries.extend(writer.folder(&root, 0)?);
        if writer.chains.len() > clusters + 2 || entries.len() > ROOT_ENTRIES * ENTRY {
            bail!("the files do not fit into a file system of {} bytes", self.sectors * SECTOR);
        }
        let mut out = self.boot_sector(table);
        for _ in 0..COPIES {
            let start = out.len();
            out.extend(writer.chains.iter().flat_map(|cluster| cluster.to_le_bytes()));
            out.resize(start + table * SECTOR, 0);
        }
        out.extend(entries);
        out.resize(data, 0);
        out.extend(&writer.content);
        Ok(out)
    }

    /// Sectors of a table, and clusters.
    fn geometry(&self) -> Result<(usize, usize)> {
        let per_cluster = self.cluster / SECTOR;
        let rest = self.sectors - RESERVED - ROOT_ENTRIES * ENTRY / SECTOR;
        // Two bytes of each table for each cluster; the two reserved entries make it one sector more at most.
        let table = (rest / per_cluster + 2).div_ceil(SECTOR / 2);
        let clusters = (rest - COPIES * table) / per_cluster;
        // The number of clusters is what tells FAT16 from FAT12 and FAT32.
        if !(4085..65525).contains(&clusters) {
            bail!("{clusters} clusters make no FAT16");
        }
        Ok((table, clusters))
    }

    fn boot_sector(&self, table: usize) -> Vec<u8> {
        let short = |number: usize| u16::try_from(number).expect("a field of FAT16").to_le_bytes();
        let mut sector = vec![0xeb, 0x3c, 0x90];
        sector.extend(b"SIXGATE ");
        sector.extend(short(SECTOR));
        sector.push(u8::try_from(self.cluster / SECTOR).expect("a cluster has few sectors"));
        sector.extend(short(RESERVED));
        sector.push(COPIES as u8);
        sector.extend(short(ROOT_ENTRIES));
        sector.extend(short(if self.sectors < 65536 { self.sectors } else { 0 }));
        sector.push(0xf8);
        sector.extend(short(table));
        sector.extend(short(63));
        sector.extend(short(255));
        sector.extend(0_u32.to_le_bytes());
        let long = if self.sectors < 65536 { 0 } else { u32::try_from(self.sectors).expect("a small disk") };
        sector.extend(long.to_le_bytes());
        sector.extend([0x80, 0, 0x29]);
        sector.extend(self.identifier.to_le_bytes());
        sector.extend(self.label);
        sector.extend(b"FAT16   ");
        sector.resize(SECTOR - 2, 0);
        sector.extend([0x55, 0xaa]);
        sector
    }
}

struct Writer {
    cluster: usize,
    chains: Vec<u16>,
    content: Vec<u8>,
}

impl Writer {
    /// Stores bytes in one piece and returns their first cluster.
    fn store(&mut self, bytes: &[u8]) -> Result<u16> {
        let first = self.chains.len();
        let count = bytes.len().div_ceil(self.cluster);
        for next in first + 1..first + count {
            self.chains.push(u16::try_from(next).context("the files do not fit into a FAT16")?);
        }
        self.chains.push(END_OF_CHAIN);
        self.content.extend(bytes);
        self.content.resize(self.content.len().next_multiple_of(self.cluster), 0);
        u16::try_from(first).context("the files do not fit into a FAT16")
    }

    /// The entries of a folder, whose own folders are stored.
    fn folder(&mut self, folder: &Folder, own: u16) -> Result<Vec<u8>> {
        let mut entries = Vec::new();
        for (name, below) in &folder.folders {
            // Its own number stands in its first entry, so the place is taken first: one cluster holds 64 entries and more.
            let first = self.store(&[0])?;
            let mut content = entry(b".          ", DIRECTORY, first, 0).to_vec();
            content.extend(entry(b"..         ", DIRECTORY, own, 0));
            content.extend(self.folder(below, first)?);
            if content.len() > self.cluster {
                bail!("too many files in {name}");
            }
            let at = (usize::from(first) - 2) * self.cluster;
            self.content[at..at + content.len()].copy_from_slice(&content);
            entries.extend(entry(&short_name(name)?, DIRECTORY, first, 0));
        }
        for (name, (first, size)) in &folder.files {
            entries.extend(entry(&short_name(name)?, 0x20, *first, *size));
        }
        Ok(entries)
    }
}

fn entry(name: &[u8; 11], attributes: u8, first: u16, size: u32) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[..11].copy_from_slice(name);
    entry[11] = attributes;
    entry[12] = LOWER_CASE;
    for at in [16, 18, 24] {
        entry[at..at + 2].copy_from_slice(&DATE.to_le_bytes());
    }
    entry[26..28].copy_from_slice(&first.to_le_bytes());
    entry[28..].copy_from_slice(&size.to_le_bytes());
    entry
}

fn short_name(name: &str) -> Result<[u8; 11]> {
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if stem.is_empty() || stem.len() > 8 || extension.len() > 3 || !plain(stem) || !plain(extension) {
        bail!("{name} is no short name");
    }
    let mut short = [b' '; 11];
    short[..stem.len()].copy_from_slice(stem.to_ascii_uppercase().as_bytes());
    short[8..8 + extension.len()].copy_from_slice(extension.to_ascii_uppercase().as_bytes());
    Ok(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8], at: usize) -> usize {
        usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
    }

    /// Reads a file back by the rules of the format, from the root on.
    fn read(image: &[u8], path: &[&[u8; 11]]) -> Option<Vec<u8>> {
        let (cluster, table) = (usize::from(image[13]) * SECTOR, number(image, 22));
        let root = (RESERVED + COPIES * table) * SECTOR;
        let data = root + ROOT_ENTRIES * ENTRY;
        let mut folder = image[root..data].to_vec();
        for (depth, name) in path.iter().enumerate() {
            let entry = folder.chunks(ENTRY).find(|entry| entry[..11] == name[..])?.to_vec();
            let mut at = number(&entry, 26);
            let mut content = Vec::new();
            while (2..0xfff8).contains(&at) {
                content.extend(&image[data + (at - 2) * cluster..][..cluster]);
                at = number(image, SECTOR * RESERVED + at * 2);
            }
            if depth + 1 == path.len() {
                content.truncate(u32::from_le_bytes(entry[28..].try_into().unwrap()) as usize);
                return Some(content);
            }
            folder = content;
        }
        None
    }

    #[test]
    fn files_are_read_back_from_folders_within_folders() {
        let mut fat = Fat::new("SIXGATE", 7, 16 << 20, 2048);
        let long: Vec<u8> = (0..5000_u32).map(|number| number as u8).collect();
        fat.add("grub/grubenv", vec![b'#'; 1024]);
        fat.add("efi/boot/bootx64.efi", long.clone());
        fat.add("efi/debian/grub.cfg", b"source".to_vec());
        fat.add("empty", Vec::new());
        let image = fat.emit().unwrap();
        assert_eq!(read(&image, &[b"EFI        ", b"BOOT       ", b"BOOTX64 EFI"]), Some(long));
        assert_eq!(read(&image, &[b"EFI        ", b"DEBIAN     ", b"GRUB    CFG"]), Some(b"source".to_vec()));
        assert_eq!(read(&image, &[b"EMPTY      "]), Some(Vec::new()));
        assert_eq!(read(&image, &[b"GRUB       ", b"GRUBENV    "]), Some(vec![b'#'; 1024]));
        assert_eq!(image, fat.emit().unwrap());
    }

    #[test]
    fn what_does_not_fit_and_long_names_are_refused() {
        let mut fat = Fat::new("X", 7, 16 << 20, 2048);
        fat.add("vmlinuz", vec![1; 17 << 20]);
        assert!(fat.emit().is_err());
        assert!(short_name("grub.config").is_err() && short_name("initrd.img").is_ok());
        assert!(Fat::new("X", 7, 1 << 20, 2048).emit().is_err());
    }
}
