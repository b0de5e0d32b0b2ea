//! The appliance's disk: boot loader, two slots, state. Written without root, loop devices or mounts; the same parts give the same bytes.
mod bundle;
mod fat;
mod gpt;
mod loader;
mod qcow2;
mod state;

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use fat::Fat;
use gpt::{Kind, Partition, SECTOR};

const MIB: u64 = 1 << 20;
const PER_MIB: u64 = MIB / SECTOR;

const ESP: u64 = 16 * MIB;
const SLOT: u64 = 64 * MIB;
const STATE: u64 = 64 * MIB;

/// Process 1 looks for the partitions by these names.
const PARTITIONS: &[(Kind, &str, &str, u64)] = &[
    (Kind::BiosBoot, "bios", "5a1d2f0e-0001-4a6e-8f10-736978676174", MIB),
    (Kind::Efi, "esp", "5a1d2f0e-0002-4a6e-8f10-736978676174", ESP),
    (Kind::Linux, "slot-a", "5a1d2f0e-0003-4a6e-8f10-736978676174", SLOT),
    (Kind::Linux, "slot-b", "5a1d2f0e-0004-4a6e-8f10-736978676174", SLOT),
    (Kind::Linux, "state", "5a1d2f0e-0005-4a6e-8f10-736978676174", STATE),
];

/// What a slot is made of.
pub(super) struct Slot {
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
    /// The bill of materials.
    pub(super) components: PathBuf,
    /// The licences of what is in it.
    pub(super) licences: PathBuf,
    /// The kernel's package, which the manifest names.
    pub(super) kernel_package: String,
}

/// What was built.
pub(super) struct Disk {
    pub(super) raw: PathBuf,
    pub(super) qcow2: PathBuf,
    pub(super) bundle: PathBuf,
}

/// The template of an empty state partition, which the initramfs carries.
pub(super) fn state_template(folder: &Path) -> Result<Vec<u8>> {
    Ok(state::template(&state::build(folder, STATE)?))
}

/// The public key of whoever signs updates, which the initramfs carries.
pub(super) fn public_key(folder: &Path) -> Result<String> {
    bundle::public_key(folder)
}

/// Writes the disk, as raw and as qcow2, the update bundle, and the list of inputs. Packages and key are in `folder`.
pub(super) fn build(folder: &Path, out: &Path, slot: &Slot) -> Result<Disk> {
    let loader = loader::build(folder, out)?;
    let system = slot_file_system(slot)?;
    let header = bundle::header(folder, &system, &slot.kernel_package)?;

    let mut partitions = Vec::new();
    let mut first = PER_MIB;
    for &(kind, name, guid, bytes) in PARTITIONS {
        partitions.push(Partition { kind, name, guid, first, sectors: bytes / SECTOR });
        first += bytes / SECTOR;
    }
    let sectors = first + PER_MIB;
    let tables = gpt::tables(&partitions, sectors);

    let mut esp = Fat::new("SIXGATE-ESP", 0x5158_0001, ESP, 2048);
    for (path, content) in loader.files {
        esp.add(path, content);
    }
    let (slot_at, slot_end) = (partitions[2].first * SECTOR, (partitions[2].first + partitions[2].sectors) * SECTOR);
    let pieces: [(u64, &[u8]); 8] = [
        (0, &tables.head),
        (0, &loader.boot_code),
        (loader::CORE_AT * SECTOR, &loader.core),
        (partitions[1].first * SECTOR, &esp.emit()?),
        (slot_at, &system),
        (slot_end - header.len() as u64, &header),
        (partitions[4].first * SECTOR, &state::build(out, STATE)?),
        (tables.tail_at * SECTOR, &tables.tail),
    ];
    let mut disk = vec![0; usize::try_from(sectors * SECTOR)?];
    for (at, piece) in pieces {
        let at = usize::try_from(at)?;
        disk[at..at + piece.len()].copy_from_slice(piece);
    }

    let name = |ending: &str| out.join(format!("sixgate-{}.{ending}", env!("CARGO_PKG_VERSION")));
    let paths = Disk { raw: name("raw"), qcow2: name("qcow2"), bundle: name("update") };
    write_sparse(&paths.raw, &disk)?;
    super::write_if_changed(&paths.qcow2, &qcow2::convert(&disk)?)?;
    super::write_if_changed(&paths.bundle, &bundle::emit(&header, &system))?;
    let mut inputs = loader.packages;
    inputs.push(folder.join("kernel").join(format!("{}.deb", slot.kernel_package)));
    super::write_if_changed(&name("inputs"), list(&inputs)?.as_bytes())?;
    Ok(paths)
}

/// Digests and names of the packages, as sha256sum writes them: the same ones and the same commit give the same disk.
fn list(inputs: &[PathBuf]) -> Result<String> {
    let mut lines = String::new();
    for path in inputs {
        let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        lines.push_str(&format!("{}  {name}\n", bundle::digest(&content)));
    }
    Ok(lines)
}

fn slot_file_system(slot: &Slot) -> Result<Vec<u8>> {
    let mut system = Fat::new("SIXGATE", 0x5158_0002, SLOT, 8192);
    let files = [
        ("vmlinuz", &slot.kernel),
        ("initrd.img", &slot.initrd),
        ("sbom.cdx", &slot.components),
        ("licences.txt", &slot.licences),
    ];
    for (name, path) in files {
        system.add(name, fs::read(path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    system.emit()
}

/// Writes a file without room for its zeros.
fn write_sparse(path: &Path, content: &[u8]) -> Result<()> {
    const PIECE: usize = 64 << 10;
    let mut file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    for (index, piece) in content.chunks(PIECE).enumerate() {
        if piece.iter().any(|byte| *byte != 0) {
            file.seek(SeekFrom::Start((index * PIECE) as u64))?;
            file.write_all(piece)?;
        }
    }
    file.set_len(content.len() as u64).with_context(|| format!("cannot write {}", path.display()))
}
