//! The appliance's kernel and initramfs, its disk and update bundle, and the small initramfs of the demo's client.
pub(crate) mod apt;
mod binary;
mod disk;
mod firmware;
pub(crate) mod initramfs;
pub(crate) mod kernel;
pub(crate) mod modules;
mod sbom;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use sixgate_qemu::Boot;
use sixgate_qemu::cpio::{Archive, Entry};

use crate::command::{root, target};

/// What stands in `/etc/hosts`: the C library's resolver looks there first.
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";

/// MiB of the qcow2 disk at most, the second slot empty.
const LARGEST: f64 = 24.0;

/// Empty folders that PID 1 mounts on or that programs expect.
const FOLDERS: &[&str] = &["dev", "etc", "proc", "root", "run", "sys", "tmp", "var"];

/// What the builder can be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write the sizes into docs/benchmarks/image.md.
    #[arg(long)]
    note: bool,
}

/// A built image.
pub(crate) struct Image {
    /// What a machine boots.
    pub(crate) boot: Boot,
    /// Name and version of the kernel's package.
    kernel_package: String,
    /// Names of the modules.
    modules: usize,
    /// The parts with their files, for the report.
    parts: Vec<(&'static str, PathBuf)>,
}

impl Image {
    fn slot(&self, folder: &Path) -> disk::Slot {
        let kernel_package = self.kernel_package.clone();
        let note = |ending: &str| folder.join(format!("sixgate-{}.{ending}", env!("CARGO_PKG_VERSION")));
        disk::Slot {
            kernel: folder.join("vmlinuz"),
            initrd: self.boot.initrd.clone(),
            components: note("cdx.json"),
            licences: note("licences.txt"),
            kernel_package,
        }
    }

    /// Prints what was built.
    pub(crate) fn report(&self) {
        println!("kernel package  {}", self.kernel_package);
        println!("modules         {}", self.modules);
        for (name, path) in &self.parts {
            println!("{name:<15} {:>6.1} MB  {}", megabytes(length(path)), path.display());
        }
    }

    /// The same for the document.
    fn table(&self) -> String {
        let mut table =
            format!("| Part, of {} with {} modules | size |\n|---|---|\n", self.kernel_package, self.modules);
        for (name, path) in &self.parts {
            let bytes = length(path);
            let _ = writeln!(table, "| {name} | {:.1} MB ({:.1} MiB) |", megabytes(bytes), mebibytes(bytes));
        }
        table
    }
}

/// Builds, prints and, where it is asked for, writes down.
pub(crate) fn run(options: &Options) -> Result<()> {
    let image = build_disk()?;
    image.report();
    if options.note {
        let path = root().join("docs/benchmarks/image.md");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let noted = noted(&text, &image.table()).context("docs/benchmarks/image.md has no place for the sizes")?;
        write_if_changed(&path, noted.as_bytes())?;
    }
    Ok(())
}

/// The document with another table between its two marks.
fn noted(text: &str, table: &str) -> Option<String> {
    const MARKS: (&str, &str) = ("<!-- sizes, by `cargo xtask image --note` -->\n", "<!-- end of sizes -->");
    let (before, rest) = text.split_once(MARKS.0)?;
    let (_, after) = rest.split_once(MARKS.1)?;
    Some([before, MARKS.0, table, MARKS.1, after].concat())
}

/// Builds the image's binary alone.
pub(crate) fn sixgate() -> Result<PathBuf> {
    binary::build("sixgate")
}

/// Builds the image into `target/image`.
pub(crate) fn build() -> Result<Image> {
    let folder = folder()?;
    let kernel = kernel::fetch(&folder)?;
    let modules = modules::pick(&kernel)?;
    let binary = binary::build("sixgate")?;

    let mut system = base();
    let content = fs::read(&binary).with_context(|| format!("cannot read {}", binary.display()))?;
    system.add("usr/bin/sixgate", Entry::Executable(content));
    system.add("init", Entry::Link("usr/bin/sixgate".into()));
    // The kernel calls this when it wants a module.
    system.add("sbin/modprobe", Entry::Link("/usr/bin/sixgate".into()));
    system.add("etc/hosts", Entry::File(HOSTS.into()));
    system.add("etc/update.pub", Entry::File(disk::public_key(&folder)?.into()));
    system.add("etc/state.template", Entry::File(disk::state_template(&folder)?));

    let initrd = folder.join("initrd.img");
    let modules_part = initramfs::compress(&folder.join("modules.cpio"), &modules.archive)?;
    let system_part = initramfs::compress(&folder.join("system.cpio"), &system)?;
    initramfs::join(&initrd, &[&modules_part, &system_part])?;

    let boot = kernel.install(&folder, initrd.clone())?;
    let parts = vec![
        ("vmlinuz", folder.join("vmlinuz")),
        ("boots under QEMU", boot.kernel.clone()),
        ("binary", binary),
        ("modules packed", modules_part),
        ("initramfs", initrd),
    ];
    Ok(Image { boot, kernel_package: kernel.package, modules: modules.count, parts })
}

/// Builds the image and the disk around it.
pub(crate) fn build_disk() -> Result<Image> {
    let mut image = build()?;
    let folder = folder()?;
    let package = folder.join("kernel").join(&image.kernel_package);
    let bill = sbom::draw_up(&folder, (&folder.join(format!("kernel/{}.deb", image.kernel_package)), &package))?;
    let [components, licences] = ["cdx.json", "licences.txt"]
        .map(|ending| folder.join(format!("sixgate-{}.{ending}", env!("CARGO_PKG_VERSION"))));
    write_if_changed(&components, bill.components.as_bytes())?;
    write_if_changed(&licences, bill.licences.as_bytes())?;
    let disk = disk::build(&folder, &folder, &image.slot(&folder))?;
    image.parts.extend([("bill of materials", components), ("licences", licences)]);
    let size = mebibytes(length(&disk.qcow2));
    ensure!(size <= LARGEST, "{} has {size:.1} MiB, of which {LARGEST} are allowed", disk.qcow2.display());
    image.parts.extend([("disk, raw", disk.raw), ("disk, qcow2", disk.qcow2), ("update bundle", disk.bundle)]);
    Ok(image)
}

/// What the tests need: the disk, which a second build must repeat byte by byte, and the firmware to boot it with.
pub(crate) fn build_for_tests() -> Result<Image> {
    let image = build_disk()?;
    let folder = folder()?;
    firmware::fetch(&folder)?;
    let again = folder.join("again");
    fs::create_dir_all(&again)?;
    disk::build(&folder, &again, &image.slot(&folder))?;
    for entry in fs::read_dir(&again)? {
        let repeated = entry?.path();
        let first = folder.join(repeated.file_name().unwrap_or_default());
        ensure!(fs::read(&repeated)? == fs::read(&first)?, "a second build of {} differs", first.display());
    }
    fs::remove_dir_all(&again)?;
    Ok(image)
}

/// Builds the demo's client: the same kernel, the driver of its network card, one program.
pub(crate) fn build_client() -> Result<Boot> {
    let folder = folder()?;
    let kernel = kernel::fetch(&folder)?;
    let binary = binary::build("sixgate-client")?;
    let mut system = base();
    system.add("init", Entry::Executable(fs::read(&binary)?));
    for (order, module) in modules::in_load_order(&kernel, &["virtio_net"])?.into_iter().enumerate() {
        system.add(&format!("modules/{order:02}.ko"), Entry::File(module));
    }
    let initrd = folder.join("client.img");
    let part = initramfs::compress(&folder.join("client.cpio"), &system)?;
    initramfs::join(&initrd, &[&part])?;
    kernel.install(&folder, initrd)
}

/// What was built last.
pub(crate) struct Built {
    /// The router, as QEMU loads it.
    pub(crate) router: Boot,
    /// The demo's client.
    pub(crate) client: Boot,
    /// The kernel as the disk has it.
    pub(crate) packed_kernel: PathBuf,
    /// The disk.
    pub(crate) raw: PathBuf,
}

/// Finds it.
pub(crate) fn as_built() -> Result<Built> {
    let folder = folder()?;
    let boot = |name: &str| Boot { kernel: folder.join("vmlinux"), initrd: folder.join(name) };
    let raw = folder.join(format!("sixgate-{}.raw", env!("CARGO_PKG_VERSION")));
    ensure!(raw.is_file(), "{}: `cargo xtask image` builds it", raw.display());
    Ok(Built { router: boot("initrd.img"), client: boot("client.img"), packed_kernel: folder.join("vmlinuz"), raw })
}

fn folder() -> Result<PathBuf> {
    let folder = target().join("image");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// A root file system with nothing in it but folders and the device that PID 1's first words go to.
pub(crate) fn base() -> Archive {
    let mut archive = Archive::default();
    for folder in FOLDERS {
        archive.add(folder, Entry::Directory);
    }
    archive.add("dev/console", Entry::Device(5, 1));
    archive.add("dev/null", Entry::Device(1, 3));
    archive
}

/// Writes a file only when that changes it, so that time stamps tell what is new.
fn write_if_changed(path: &Path, content: &[u8]) -> Result<bool> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

/// Bytes of a file; none where it is missing.
fn length(path: &Path) -> u64 {
    fs::metadata(path).map(|file| file.len()).unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "a size for reading")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "a size for reading")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_the_one_before() {
        let text = "a\n<!-- sizes, by `cargo xtask image --note` -->\nold\n<!-- end of sizes -->\nb\n";
        let noted = noted(text, "new\n").unwrap();
        assert_eq!(noted, text.replace("old", "new"));
        assert!(super::noted("a", "new\n").is_none());
        assert!(super::noted(include_str!("../../../docs/benchmarks/image.md"), "new\n").is_some());
    }
}
