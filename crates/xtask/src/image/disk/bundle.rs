//! The update bundle: a signed manifest, then the file system of a slot. A slot's own partition ends with the same manifest.
//!
//! The signature is minisign's, over the manifest's line; the manifest names length and digest of what follows.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use ct_codecs::{Base64, Decoder as _, Encoder as _, Hex};
use ed25519_compact::{KeyPair, PublicKey, Seed};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// The first line; the number is the format's.
const MAGIC: &str = "sixgate-update 1";
/// minisign's mark of an Ed25519 signature over the message itself.
const ALGORITHM: [u8; 2] = *b"Ed";
/// Bytes of the header: magic, manifest, signature, zeros.
const HEADER: usize = 8192;
/// A drive's sectors may be so long.
const ALIGNMENT: usize = 2048;
/// Raised when an older sixgate could not read the state that this one writes.
const STATE_FORMAT: u32 = 1;

/// Names the file with the secret key of a release; without it a key is made under the target folder.
const KEY_VARIABLE: &str = "SIXGATE_UPDATE_KEY";

/// The public key, as minisign writes it.
pub(super) fn public_key(folder: &Path) -> Result<String> {
    let pair = key_pair(folder)?;
    let content = [&ALGORITHM[..], &key_number(&pair.pk), &pair.pk[..]].concat();
    Ok(format!("untrusted comment: sixgate's updates\n{}\n", encode(&content)?))
}

/// The header for this file system.
pub(super) fn header(folder: &Path, system: &[u8], kernel_package: &str) -> Result<Vec<u8>> {
    let manifest = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "kernel": kernel_package,
        "state": STATE_FORMAT,
        "length": system.len(),
        "sha256": digest(system),
    })
    .to_string();
    let mut header = format!("{MAGIC}\n{manifest}\n{}", signature(&key_pair(folder)?, &manifest)?).into_bytes();
    anyhow::ensure!(header.len() < HEADER, "the manifest is too long");
    header.resize(HEADER, 0);
    Ok(header)
}

/// A signature as minisign writes it. Nothing about it is random, so the same manifest has the same one.
fn signature(pair: &KeyPair, manifest: &str) -> Result<String> {
    let comment = format!("sixgate {}", env!("CARGO_PKG_VERSION"));
    let signature = pair.sk.sign(manifest, None);
    let of_both = pair.sk.sign([&signature[..], comment.as_bytes()].concat(), None);
    let content = [&ALGORITHM[..], &key_number(&pair.pk), &signature[..]].concat();
    Ok(format!(
        "untrusted comment: signature of an update\n{}\ntrusted comment: {comment}\n{}\n",
        encode(&content)?,
        encode(&of_both[..])?
    ))
}

/// Tells keys apart; it is no secret and no proof.
fn key_number(key: &PublicKey) -> [u8; 8] {
    let mut number = [0; 8];
    number.copy_from_slice(&Sha256::digest(&key[..])[..8]);
    number
}

fn encode(content: &[u8]) -> Result<String> {
    Ok(Base64::encode_to_string(content)?)
}

/// The bundle.
pub(super) fn emit(header: &[u8], system: &[u8]) -> Vec<u8> {
    let mut bundle = [header, system].concat();
    bundle.resize(bundle.len().next_multiple_of(ALIGNMENT), 0);
    bundle
}

/// SHA-256, as hexadecimal digits.
pub(super) fn digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The key: 64 hexadecimal digits in a file.
fn key_pair(folder: &Path) -> Result<KeyPair> {
    let path = std::env::var_os(KEY_VARIABLE).map_or_else(|| folder.join("update.key"), PathBuf::from);
    if !path.is_file() {
        let mut seed = [0; 32];
        rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())?;
        write_secret(&path, &Hex::encode_to_string(seed)?)?;
    }
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let seed = Hex::decode_to_vec(text.trim(), None).ok().and_then(|seed| Seed::from_slice(&seed).ok());
    Ok(KeyPair::from_seed(seed.with_context(|| format!("{} does not hold 64 hexadecimal digits", path.display()))?))
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}
