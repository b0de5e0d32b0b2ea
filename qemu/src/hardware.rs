//! What a machine that boots from its disk is made of: firmware, chipset, controllers, as hypervisors combine them.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Firmware.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Firmware {
    /// The old kind.
    #[default]
    SeaBios,
    /// UEFI.
    Ovmf,
    /// UEFI with Secure Boot and Microsoft's keys.
    OvmfSecure,
}

/// Chipset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Chipset {
    /// i440fx, Proxmox's default.
    #[default]
    I440fx,
    /// q35.
    Q35,
}

/// Where the disk is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bus {
    /// A virtio SCSI controller.
    #[default]
    VirtioScsi,
    /// A virtio SCSI controller with a thread of its own, for this disk alone.
    VirtioScsiSingle,
    /// A virtio block device.
    VirtioBlk,
    /// An AHCI controller.
    Sata,
    /// The chipset's own controller: of IDE on i440fx, of SATA on q35.
    Ide,
}

/// Model of the network cards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Model {
    /// virtio-net.
    #[default]
    Virtio,
    /// Intel's e1000.
    E1000,
}

impl Model {
    pub(crate) fn device(self) -> &'static str {
        match self {
            Self::Virtio => "virtio-net-pci",
            Self::E1000 => "e1000",
        }
    }
}

/// The hardware of a machine that boots from a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hardware {
    /// Firmware.
    pub firmware: Firmware,
    /// Where OVMF's files are.
    pub firmware_folder: PathBuf,
    /// Chipset.
    pub chipset: Chipset,
    /// The disk's controller.
    pub bus: Bus,
    /// QEMU's name of the processor.
    pub cpu: &'static str,
    /// Processors.
    pub cpus: u32,
    /// A screen.
    pub vga: bool,
    /// A serial port. Without one there is no console's log.
    pub serial: bool,
    /// A memory balloon.
    pub balloon: bool,
    /// An entropy source.
    pub rng: bool,
    /// A watchdog, which ends the machine when it is not fed.
    pub watchdog: bool,
    /// Further drives, read-only: a CD each.
    pub cds: Vec<PathBuf>,
    /// What the machine's battery-backed clock says at power-on, in UTC, as `2020-01-31T12:00:00`; the host's time unless given.
    pub clock: Option<String>,
    /// Values that the firmware passes on as SMBIOS strings (type 11).
    pub oem_strings: Vec<String>,
}

impl Default for Hardware {
    fn default() -> Self {
        Self {
            firmware: Firmware::default(),
            firmware_folder: "/usr/share/OVMF".into(),
            chipset: Chipset::default(),
            bus: Bus::default(),
            cpu: "kvm64",
            cpus: 1,
            vga: true,
            serial: true,
            balloon: true,
            rng: false,
            watchdog: false,
            cds: Vec::new(),
            clock: None,
            oem_strings: Vec::new(),
        }
    }
}

impl Hardware {
    /// QEMU's arguments for everything but the network. `folder` takes a copy of the firmware's variables.
    pub(crate) fn arguments(&self, disk: &Path, folder: &Path) -> Result<Vec<String>> {
        let mut words: Vec<String> = Vec::new();
        let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
        let machine = match (self.chipset, self.firmware) {
            (Chipset::I440fx, _) => "pc",
            (Chipset::Q35, Firmware::OvmfSecure) => "q35,smm=on",
            (Chipset::Q35, _) => "q35",
        };
        add("-machine", machine.into());
        add("-cpu", self.cpu.into());
        add("-smp", self.cpus.to_string());
        add("-vga", if self.vga { "std" } else { "none" }.into());
        if let Some((code, variables)) = self.firmware.files(&self.firmware_folder) {
            let copy = folder.join("variables.fd");
            if !copy.exists() {
                fs::copy(&variables, &copy).with_context(|| format!("cannot copy {}", variables.display()))?;
            }
            if self.firmware == Firmware::OvmfSecure {
                add("-global", "driver=cfi.pflash01,property=secure,value=on".into());
            }
            add("-drive", format!("if=pflash,unit=0,format=raw,readonly=on,file={}", code.display()));
            add("-drive", format!("if=pflash,unit=1,format=raw,file={}", copy.display()));
        }
        let format = if disk.extension().is_some_and(|extension| extension == "qcow2") { "qcow2" } else { "raw" };
        add("-drive", format!("if=none,id=disk,format={format},file={}", disk.display()));
        for (number, cd) in self.cds.iter().enumerate() {
            add("-drive", format!("if=none,id=cd{number},format=raw,media=cdrom,readonly=on,file={}", cd.display()));
        }
        match self.bus {
            Bus::VirtioScsi => {
                add("-device", "virtio-scsi-pci,id=scsihw0".into());
                add("-device", "scsi-hd,bus=scsihw0.0,drive=disk,bootindex=100".into());
            }
            Bus::VirtioScsiSingle => {
                add("-object", "iothread,id=iothread0".into());
                add("-device", "virtio-scsi-pci,id=scsihw0,iothread=iothread0".into());
                add("-device", "scsi-hd,bus=scsihw0.0,drive=disk,bootindex=100".into());
            }
            Bus::VirtioBlk => add("-device", "virtio-blk-pci,drive=disk,bootindex=100".into()),
            Bus::Sata => {
                add("-device", "ahci,id=ahci0".into());
                add("-device", "ide-hd,bus=ahci0.0,drive=disk,bootindex=100".into());
            }
            Bus::Ide => add("-device", "ide-hd,bus=ide.0,drive=disk,bootindex=100".into()),
        }
        for number in 0..self.cds.len() {
            // On i440fx each of the two channels takes two drives, on q35 each of six ports takes one.
            let place = match self.chipset {
                Chipset::I440fx => format!("bus=ide.1,unit={number}"),
                Chipset::Q35 => format!("bus=ide.{}", number + 2),
            };
            add("-device", format!("ide-cd,{place},drive=cd{number}"));
        }
        if self.balloon {
            add("-device", "virtio-balloon-pci".into());
        }
        if self.rng {
            add("-device", "virtio-rng-pci".into());
        }
        if self.watchdog {
            add("-device", "i6300esb".into());
            add("-action", "watchdog=poweroff".into());
        }
        if let Some(clock) = &self.clock {
            add("-rtc", format!("base={clock}"));
        }
        for value in &self.oem_strings {
            add("-smbios", format!("type=11,value={}", value.replace(',', ",,")));
        }
        Ok(words)
    }
}

impl Firmware {
    /// Code and variables, where the firmware is not QEMU's own.
    fn files(self, folder: &Path) -> Option<(PathBuf, PathBuf)> {
        let (code, variables) = match self {
            Self::SeaBios => return None,
            Self::Ovmf => ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),
            Self::OvmfSecure => ("OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd"),
        };
        Some((folder.join(code), folder.join(variables)))
    }
}
