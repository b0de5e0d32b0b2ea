//! Archives in the `newc` format of cpio, which the kernel unpacks as its first root file system; the same entries give the same bytes.
use std::collections::BTreeMap;

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A directory with mode 0755.
    Directory,
    /// A file with mode 0644.
    File(Vec<u8>),
    /// A file with mode 0755.
    Executable(Vec<u8>),
    /// A symbolic link to this path.
    Link(String),
    /// A character device with mode 0600: major and minor number.
    Device(u32, u32),
}

/// An archive in the making: paths without a leading slash, kept sorted; parent directories come by themselves.
#[derive(Clone, Debug, Default)]
pub struct Archive(BTreeMap<String, Entry>);

impl Archive {
    /// Puts an entry at a path, replacing what stood there.
    pub fn add(&mut self, path: &str, entry: Entry) {
        let path = path.trim_matches('/');
        let parents = path.match_indices('/').map(|(end, _)| &path[..end]);
        for parent in parents {
            self.0.entry(parent.to_owned()).or_insert(Entry::Directory);
        }
        self.0.insert(path.to_owned(), entry);
    }

    /// Emits the archive, padded to four bytes so that another one may follow it.
    pub fn emit(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // A directory sorts before what it holds, which is the order the kernel needs.
        for (inode, (path, entry)) in (1..).zip(&self.0) {
            emit_entry(&mut out, inode, path, entry);
        }
        emit_header(&mut out, &Header { links: 1, ..Header::default() }, "TRAILER!!!");
        out
    }
}

#[derive(Default)]
struct Header {
    inode: u32,
    mode: u32,
    links: u32,
    size: u32,
    device: (u32, u32),
}

fn emit_entry(out: &mut Vec<u8>, inode: u32, path: &str, entry: &Entry) {
    let (mode, content, device): (u32, &[u8], _) = match entry {
        Entry::Directory => (0o040_755, &[], (0, 0)),
        Entry::File(content) => (0o100_644, content, (0, 0)),
        Entry::Executable(content) => (0o100_755, content, (0, 0)),
        Entry::Link(target) => (0o120_777, target.as_bytes(), (0, 0)),
        Entry::Device(major, minor) => (0o020_600, &[], (*major, *minor)),
    };
    let size = u32::try_from(content.len()).expect("an entry of the newc format is smaller than 4 GiB");
    let links = if matches!(entry, Entry::Directory) { 2 } else { 1 };
    emit_header(out, &Header { inode, mode, links, size, device }, path);
    out.extend_from_slice(content);
    pad(out);
}

fn emit_header(out: &mut Vec<u8>, header: &Header, path: &str) {
    let name_size = u32::try_from(path.len() + 1).expect("a path is short");
    let (uid, gid, mtime, file_system, check) = (0, 0, 0, (0, 0), 0);
    let fields = [
        header.inode,
        header.mode,
        uid,
        gid,
        header.links,
        mtime,
        header.size,
        file_system.0,
        file_system.1,
        header.device.0,
        header.device.1,
        name_size,
        check,
    ];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out);
}

/// Pads to four bytes: headers and contents start there, and so does the next archive of an initramfs.
pub(crate) fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(bytes: &[u8], index: usize) -> u32 {
        let start = 6 + index * 8;
        u32::from_str_radix(std::str::from_utf8(&bytes[start..start + 8]).unwrap(), 16).unwrap()
    }

    /// Reads an archive back as (path, mode, content).
    fn entries(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut found = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let (mode, size, name_size) = (field(bytes, 1), field(bytes, 6) as usize, field(bytes, 11) as usize);
            let name = String::from_utf8(bytes[110..110 + name_size - 1].to_vec()).unwrap();
            let start = (110 + name_size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                assert_eq!(bytes.len(), start);
                return found;
            }
            found.push((name, mode, bytes[start..start + size].to_vec()));
            bytes = &bytes[(start + size).next_multiple_of(4)..];
        }
    }

    #[test]
    fn parents_come_before_what_they_hold() {
        let mut archive = Archive::default();
        archive.add("/etc/sixgate/sixgate.toml", Entry::File(b"abc".to_vec()));
        archive.add("init", Entry::Executable(b"x".to_vec()));
        let found = entries(&archive.emit());
        let names: Vec<_> = found.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["etc", "etc/sixgate", "etc/sixgate/sixgate.toml", "init"]);
        assert_eq!((found[2].1, found[2].2.as_slice()), (0o100_644, &b"abc"[..]));
        assert_eq!(found[3].1, 0o100_755);
    }

    #[test]
    fn an_archive_ends_where_another_may_follow() {
        for length in 0..5 {
            let mut archive = Archive::default();
            archive.add("a", Entry::File(vec![1; length]));
            assert_eq!(archive.emit().len() % 4, 0);
        }
    }

    #[test]
    fn the_order_of_adding_does_not_show() {
        let (mut one, mut two) = (Archive::default(), Archive::default());
        one.add("a", Entry::File(vec![1]));
        one.add("b", Entry::Link("a".into()));
        two.add("b", Entry::Link("a".into()));
        two.add("a", Entry::File(vec![1]));
        assert_eq!(one.emit(), two.emit());
    }
}
