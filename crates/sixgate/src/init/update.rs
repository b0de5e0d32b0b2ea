//! Updates: a signed bundle on an attached drive is checked and written into the slot that does not run.
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use minisign_verify::{PublicKey, Signature};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::loader::{self, Slot};
use super::partition;

/// The key that the image was built with.
const KEY: &str = "/etc/update.pub";
/// The first line of a bundle, and of the last bytes of a slot.
const MAGIC: &str = "sixgate-update 1";
/// Bytes of what stands before a bundle's file system, and at the end of a slot.
const HEADER: usize = 8192;
/// What makes a slot a file system is its first block; it is written last.
const FIRST: usize = 4096;
const PIECE: usize = 1 << 20;

/// What a bundle says about itself, signed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Manifest {
    /// Version of sixgate in it.
    pub(crate) version: String,
    /// Bytes of the file system.
    length: u64,
    /// Its digest, in hexadecimal digits.
    sha256: String,
}

/// A header that was signed by the right key.
struct Signed {
    manifest: Manifest,
    bytes: Vec<u8>,
}

/// The drive that holds a bundle.
pub(crate) fn find() -> Option<PathBuf> {
    partition::drives().into_iter().find(|drive| {
        let mut start = [0; MAGIC.len()];
        File::open(drive).and_then(|file| file.read_exact_at(&mut start, 0)).is_ok() && start == MAGIC.as_bytes()
    })
}

/// Writes a bundle into the slot that does not run, and asks the loader to try it.
///
/// # Errors
/// What is wrong with it, for people; the slot that runs and the loader's choice are as before.
pub(crate) fn install(bundle: &Path, running: Slot) -> Result<Manifest, String> {
    let key = key()?;
    let target = partition::find(running.other().partition()).ok_or("this disk has no second slot")?;
    let file = File::open(bundle).map_err(|error| format!("{}: {error}", bundle.display()))?;
    let signed = read_header(&file, 0, &key)?;
    let write = || -> io::Result<()> {
        // Until all of it is there, nothing leads to this slot.
        loader::change(|environment| {
            environment.on_trial = None;
            environment.untried = false;
            environment.other = None;
        })?;
        write_slot(&file, &signed, &target)
    };
    write().map_err(|error| format!("the slot cannot be written: {error}"))?;
    verify_device(&target, &key)?;
    try_other(running).map_err(|error| format!("the loader cannot be told: {error}"))?;
    Ok(signed.manifest)
}

/// Asks the loader to try the slot that does not run, once.
pub(crate) fn try_other(running: Slot) -> io::Result<()> {
    loader::change(|environment| {
        environment.on_trial = Some(running.other());
        environment.untried = true;
    })
}

/// Checks what a slot holds against its signature.
///
/// # Errors
/// What is wrong with it, for people.
pub(crate) fn verify(slot: Slot) -> Result<Manifest, String> {
    let device = partition::find(slot.partition()).ok_or("there is no such slot")?;
    verify_device(&device, &key()?)
}

fn key() -> Result<PublicKey, String> {
    let text = fs::read_to_string(KEY).map_err(|error| format!("{KEY}: {error}"))?;
    PublicKey::decode(&text).map_err(|error| format!("{KEY}: {error}"))
}

fn verify_device(device: &Path, key: &PublicKey) -> Result<Manifest, String> {
    let mut file = File::open(device).map_err(|error| format!("{}: {error}", device.display()))?;
    let size = file.seek(SeekFrom::End(0)).map_err(|error| error.to_string())?;
    let signed = read_header(&file, size.saturating_sub(HEADER as u64), key)?;
    check_digest(&file, 0, &signed.manifest)?;
    Ok(signed.manifest)
}

fn read_header(file: &File, at: u64, key: &PublicKey) -> Result<Signed, String> {
    let mut bytes = vec![0; HEADER];
    file.read_exact_at(&mut bytes, at).map_err(|_| "it is too short".to_owned())?;
    let manifest = parse_header(&bytes, key)?;
    Ok(Signed { manifest, bytes })
}

fn parse_header(bytes: &[u8], key: &PublicKey) -> Result<Manifest, String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| "it is no update of sixgate".to_owned())?;
    let mut parts = text.splitn(3, '\n');
    let (Some(MAGIC), Some(manifest), Some(signature)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("it is no update of sixgate".to_owned());
    };
    let signature = Signature::decode(signature).map_err(|error| format!("its signature: {error}"))?;
    // The image's own key makes signatures over the message itself, which minisign calls legacy.
    key.verify(manifest.as_bytes(), &signature, true)
        .map_err(|_| "its signature is not by the key of this router".to_owned())?;
    serde_json::from_str(manifest).map_err(|error| format!("its manifest: {error}"))
}

fn check_digest(file: &File, at: u64, manifest: &Manifest) -> Result<(), String> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; PIECE];
    let mut done = 0;
    while done < manifest.length {
        let length = usize::try_from(manifest.length - done).map_or(PIECE, |left| left.min(PIECE));
        let piece = &mut buffer[..length];
        file.read_exact_at(piece, at + done).map_err(|error| format!("it cannot be read: {error}"))?;
        digest.update(&piece);
        done += length as u64;
    }
    let found: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found == manifest.sha256 { Ok(()) } else { Err("its content is not what was signed".to_owned()) }
}

/// Content first, then the manifest, then the block that makes it a file system.
fn write_slot(bundle: &File, signed: &Signed, target: &Path) -> io::Result<()> {
    let mut slot = OpenOptions::new().write(true).open(target)?;
    let size = slot.seek(SeekFrom::End(0))?;
    let length = signed.manifest.length;
    if length < FIRST as u64 || length + HEADER as u64 > size {
        return Err(io::Error::other("it does not fit"));
    }
    slot.write_all_at(&[0; FIRST], 0)?;
    slot.sync_all()?;
    let mut buffer = vec![0; PIECE];
    let mut done = FIRST as u64;
    while done < length {
        let piece = usize::try_from(length - done).map_or(PIECE, |left| left.min(PIECE));
        bundle.read_exact_at(&mut buffer[..piece], HEADER as u64 + done)?;
        slot.write_all_at(&buffer[..piece], done)?;
        done += piece as u64;
    }
    slot.write_all_at(&signed.bytes, size - HEADER as u64)?;
    slot.sync_all()?;
    bundle.read_exact_at(&mut buffer[..FIRST], HEADER as u64)?;
    slot.write_all_at(&buffer[..FIRST], 0)?;
    slot.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ct_codecs::{Base64, Encoder as _};
    use ed25519_compact::{KeyPair, Seed};

    fn pair(seed: u8) -> KeyPair {
        KeyPair::from_seed(Seed::new([seed; 32]))
    }

    fn public(pair: &KeyPair) -> PublicKey {
        let content = [&b"Ed12345678"[..], &pair.pk[..]].concat();
        PublicKey::from_base64(&Base64::encode_to_string(content).unwrap()).unwrap()
    }

    fn header(pair: &KeyPair, manifest: &str) -> Vec<u8> {
        let signature = pair.sk.sign(manifest, None);
        let both = pair.sk.sign([&signature[..], b"test"].concat(), None);
        let content = [&b"Ed12345678"[..], &signature[..]].concat();
        let encode = |bytes: &[u8]| Base64::encode_to_string(bytes).unwrap();
        let text = format!(
            "{MAGIC}\n{manifest}\nuntrusted comment: x\n{}\ntrusted comment: test\n{}\n",
            encode(&content),
            encode(&both[..])
        );
        let mut bytes = text.into_bytes();
        bytes.resize(HEADER, 0);
        bytes
    }

    fn manifest(system: &[u8]) -> String {
        let digest: String = Sha256::digest(system).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{{\"version\":\"2\",\"length\":{},\"sha256\":\"{digest}\"}}", system.len())
    }

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn only_the_right_keys_signature_over_this_manifest_counts() {
        let (own, other) = (pair(1), pair(2));
        let manifest = manifest(b"x");
        assert_eq!(parse_header(&header(&own, &manifest), &public(&own)).unwrap().version, "2");
        assert!(parse_header(&header(&other, &manifest), &public(&own)).unwrap_err().contains("signature"));
        let mut changed = header(&own, &manifest);
        let at = changed.windows(3).position(|bytes| bytes == b"\"2\"").unwrap();
        changed[at + 1] = b'3';
        assert!(parse_header(&changed, &public(&own)).is_err());
        for garbage in [&b""[..], b"sixgate-update 1\n", b"sixgate-update 1\n{}\n", &[0xff; 64]] {
            assert!(parse_header(garbage, &public(&own)).is_err());
        }
    }

    #[test]
    fn a_slot_that_was_written_is_verified_and_one_that_changed_is_not() {
        let own = pair(1);
        let system: Vec<u8> = (0..20_000_u32).map(|number| number as u8).collect();
        let bundle = file(&[header(&own, &manifest(&system)), system.clone()].concat());
        let slot = file(&vec![7; 1 << 16]);
        let source = File::open(bundle.path()).unwrap();
        let signed = read_header(&source, 0, &public(&own)).unwrap();
        write_slot(&source, &signed, slot.path()).unwrap();
        assert_eq!(fs::read(slot.path()).unwrap()[..system.len()], system[..]);
        verify_device(slot.path(), &public(&own)).unwrap();
        let mut damaged = fs::read(slot.path()).unwrap();
        damaged[9000] ^= 1;
        fs::write(slot.path(), damaged).unwrap();
        assert!(verify_device(slot.path(), &public(&own)).unwrap_err().contains("not what was signed"));
    }

    #[test]
    fn what_does_not_fit_leaves_the_slot_alone() {
        let own = pair(1);
        let system = vec![1; 20_000];
        let bundle = file(&[header(&own, &manifest(&system)), system].concat());
        let slot = file(&vec![7; 16_384]);
        let source = File::open(bundle.path()).unwrap();
        let signed = read_header(&source, 0, &public(&own)).unwrap();
        assert!(write_slot(&source, &signed, slot.path()).is_err());
        assert_eq!(fs::read(slot.path()).unwrap(), vec![7; 16_384]);
    }
}
