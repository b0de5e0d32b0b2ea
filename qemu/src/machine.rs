//! A machine before it is started: what it boots, what it is plugged into, where its traces go.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cpio::{self, Archive, Entry};
use crate::hardware::{Hardware, Model};
use crate::link::Nic;
use crate::running::Running;

/// A kernel and the initramfs that goes with it.
#[derive(Clone, Debug)]
pub struct Boot {
    /// A bzImage, or an uncompressed vmlinux with a PVH entry, which boots several seconds faster under emulation.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
}

/// Where a machine gets its system from.
#[derive(Debug)]
pub(crate) enum Source {
    /// QEMU loads the kernel.
    Direct(Boot),
    /// The firmware boots this disk, which keeps what is written to it.
    Disk(PathBuf, Hardware),
}

/// A machine's description.
#[derive(Debug)]
pub struct Machine {
    pub(crate) name: String,
    pub(crate) source: Source,
    /// What QEMU loads though there is a disk.
    pub(crate) loaded: Option<Boot>,
    pub(crate) model: Model,
    pub(crate) files: Vec<(String, Vec<u8>)>,
    pub(crate) append: Vec<String>,
    pub(crate) memory: u32,
    pub(crate) nics: Vec<Nic>,
    pub(crate) ports: Vec<String>,
    pub(crate) artefacts: Option<PathBuf>,
    pub(crate) captures: bool,
}

impl Machine {
    /// A machine with 128 MiB of memory, a serial console, an entropy source, a power button and nothing else.
    pub fn new(name: &str, boot: &Boot) -> Self {
        Self::of(name, Source::Direct(boot.clone()))
    }

    /// A machine with 128 MiB of memory whose firmware boots a disk. Files and words for the kernel have no place there.
    pub fn from_disk(name: &str, disk: &Path, hardware: Hardware) -> Self {
        Self::of(name, Source::Disk(disk.to_owned(), hardware))
    }

    fn of(name: &str, source: Source) -> Self {
        Self {
            name: name.to_owned(),
            source,
            loaded: None,
            model: Model::default(),
            files: Vec::new(),
            append: vec!["console=ttyS0,115200".into(), "panic=-1".into()],
            memory: 128,
            nics: Vec::new(),
            ports: Vec::new(),
            artefacts: None,
            captures: false,
        }
    }

    /// Gives the router this configuration.
    pub fn config(self, text: &str) -> Self {
        self.file(crate::CONFIG_PATH, text.as_bytes())
    }

    /// Puts a file into the first root file system.
    pub fn file(mut self, path: &str, content: &[u8]) -> Self {
        self.files.push((path.to_owned(), content.to_vec()));
        self
    }

    /// Adds a word to the kernel's command line.
    pub fn append(mut self, word: &str) -> Self {
        self.append.push(word.to_owned());
        self
    }

    /// Has QEMU load this kernel, a bzImage, on a machine with a disk.
    pub fn load(self, boot: &Boot) -> Self {
        Self { loaded: Some(boot.clone()), ..self }
    }

    /// Sets the memory in MiB.
    pub fn memory(mut self, mib: u32) -> Self {
        self.memory = mib;
        self
    }

    /// Sets the model of all network cards.
    pub fn model(mut self, model: Model) -> Self {
        self.model = model;
        self
    }

    /// Plugs in a network card; the kernel numbers them in this order.
    pub fn nic(mut self, nic: Nic) -> Self {
        self.nics.push(nic);
        self
    }

    /// Adds a virtio-serial port of this name.
    pub fn port(mut self, name: &str) -> Self {
        self.ports.push(name.to_owned());
        self
    }

    /// Keeps the console's log and QEMU's own messages in this folder; without it they go with the machine.
    pub fn artefacts(mut self, folder: &Path) -> Self {
        self.artefacts = Some(folder.to_owned());
        self
    }

    /// Writes what goes over its network cards beside the console's log, a file for each card.
    pub fn capture(self) -> Self {
        Self { captures: true, ..self }
    }

    /// Starts it. QEMU dies with this process, however that ends.
    pub fn start(self) -> Result<Running> {
        Running::start(self)
    }

    /// QEMU's arguments that do not depend on where sockets and descriptors are. `folder` is the machine's own.
    pub(crate) fn arguments(&self, folder: &Path) -> Result<Vec<String>> {
        // Two virtual CPUs or multi-threaded emulation end in guest oopses now and then.
        let mut pairs = vec![("-display", "none".into()), ("-accel", "tcg,thread=single".into())];
        pairs.extend([("-name", self.name.clone()), ("-m", self.memory.to_string())]);
        let mut own = Vec::new();
        match &self.source {
            Source::Direct(boot) => pairs.extend(self.direct(boot, folder)?),
            Source::Disk(disk, hardware) => own = hardware.arguments(disk, folder)?,
        }
        let mut arguments: Vec<String> = ["-nodefaults", "-no-user-config", "-no-reboot"].map(str::to_owned).to_vec();
        arguments.extend(pairs.into_iter().flat_map(|(option, value)| [option.to_owned(), value]));
        arguments.extend(own);
        if let Some(boot) = &self.loaded {
            let [kernel, initrd] = [&boot.kernel, &boot.initrd].map(|path| path.display().to_string());
            arguments.extend(["-kernel".into(), kernel, "-initrd".into(), initrd]);
            arguments.extend(["-append".into(), self.append.join(" ")]);
        }
        Ok(arguments)
    }

    /// Whether there is a serial port.
    pub(crate) fn has_serial(&self) -> bool {
        match &self.source {
            Source::Direct(_) => true,
            Source::Disk(_, hardware) => hardware.serial,
        }
    }

    fn direct(&self, boot: &Boot, folder: &Path) -> Result<Vec<(&'static str, String)>> {
        let initrd = folder.join("initrd.img");
        fs::write(&initrd, initrd_with_files(&boot.initrd, &self.files)?)?;
        let text =
            |path: &Path| path.to_str().map(str::to_owned).with_context(|| format!("{} is not UTF-8", path.display()));
        Ok(vec![
            ("-vga", "none".into()),
            // No disk controller and no USB: their drivers take half a second to find nothing.
            ("-machine", "q35,usb=off,sata=off,smbus=off".into()),
            ("-smp", "1".into()),
            // The oldest CPU that has to do.
            ("-cpu", "qemu64".into()),
            ("-device", "virtio-rng-pci,romfile=".into()),
            ("-kernel", text(&boot.kernel)?),
            ("-initrd", text(&initrd)?),
            ("-append", self.append.join(" ")),
        ])
    }
}

/// Appends a second archive with these files to an initramfs; the kernel unpacks one after the other.
pub fn initrd_with_files(base: &Path, files: &[(String, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut initrd = fs::read(base).with_context(|| format!("cannot read the initramfs {}", base.display()))?;
    cpio::pad(&mut initrd);
    let mut archive = Archive::default();
    for (path, content) in files {
        archive.add(path, Entry::File(content.clone()));
    }
    initrd.extend_from_slice(&archive.emit());
    Ok(initrd)
}

/// Appends the router's configuration to an initramfs.
pub fn initrd_with_config(base: &Path, config: &str) -> Result<Vec<u8>> {
    initrd_with_files(base, &[(crate::CONFIG_PATH.to_owned(), config.as_bytes().to_vec())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_follows_the_initramfs_at_four_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("initrd");
        fs::write(&base, b"12345").unwrap();
        let initrd = initrd_with_config(&base, "hostname = \"r\"\n").unwrap();
        assert_eq!(&initrd[..14], b"12345\0\0\x00070701");
        assert!(String::from_utf8_lossy(&initrd).contains("etc/sixgate/sixgate.toml\0"));
    }
}
