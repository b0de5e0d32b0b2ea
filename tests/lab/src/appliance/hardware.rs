//! The machines that hypervisors make: firmware, chipset, controller, network card, and what may be missing.
use anyhow::{Result, ensure};
use sixgate_qemu::{Bus, Chipset, Firmware, Hardware, Model};

use super::unit::BOOT;
use super::{Case, Unit};
use crate::namespace::Namespace;
use crate::wait;

/// MiB that a start needs under each firmware: the kernel's stub unpacks it to one piece of 59 MB beside what UEFI uses.
fn memory(firmware: Firmware) -> u32 {
    match firmware {
        Firmware::SeaBios => 128,
        Firmware::Ovmf | Firmware::OvmfSecure => 256,
    }
}

fn case(name: impl Into<String>, hardware: Hardware, model: Model) -> Case {
    Case::new(name, move |unit| {
        unit.memory = memory(hardware.firmware);
        unit.model = model;
        boots(unit, hardware.clone())
    })
}

/// It answers, knows its network cards, and the power button ends it.
fn boots(unit: &mut Unit, hardware: Hardware) -> Result<()> {
    unit.boot(hardware)?;
    let status = unit.status_with("an answer on the control port", serde_json::Value::is_object)?;
    ensure!(status["system"]["sixgate"] == env!("CARGO_PKG_VERSION"), "{status}");
    unit.power_off().map(drop)
}

/// The guest has to switch a card's further queues on; QEMU makes them out of TAP devices alone.
fn several_queues(unit: &mut Unit) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "TAP devices need root");
    let namespace = Namespace::create(&format!("sgq-{}", std::process::id()))?;
    for number in 1..=unit.nics {
        namespace.ip(&format!("tuntap add tap{number} mode tap multi_queue"))?;
        namespace.ip(&format!("link set tap{number} up"))?;
    }
    unit.taps = Some(namespace);
    unit.boot(Hardware { cpus: 2, cpu: "max", ..Unit::hardware() })?;
    unit.status_with("an advertisement", |status| status["lans"][0]["advertised"]["sent"].as_u64() > Some(0))?;
    wait::until_ok("queues for both processors", BOOT, || {
        let log = unit.request(&serde_json::json!({ "log": { "after": 0 } }))?.to_string();
        for card in ["eth0", "eth1"] {
            ensure!(log.contains(&format!("{card} works with 2 pairs of queues")), "{log}");
        }
        Ok(())
    })?;
    unit.power_off().map(drop)
}

/// Few machines in which every pair of kinds that could get into each other's way occurs.
pub(super) fn cases() -> Vec<Case> {
    let usual = Unit::hardware;
    vec![
        case("hardware: seabios, i440fx, virtio-scsi, virtio-net, as Proxmox makes it", usual(), Model::Virtio),
        case(
            "hardware: ovmf, q35, virtio-blk, e1000, no serial port",
            Hardware {
                firmware: Firmware::Ovmf,
                chipset: Chipset::Q35,
                bus: Bus::VirtioBlk,
                serial: false,
                rng: true,
                ..usual()
            },
            Model::E1000,
        ),
        case(
            "hardware: secure boot, q35, sata, virtio-net",
            Hardware { firmware: Firmware::OvmfSecure, chipset: Chipset::Q35, bus: Bus::Sata, cpu: "max", ..usual() },
            Model::Virtio,
        ),
        case(
            "hardware: seabios, i440fx, ide, e1000, two processors, no screen, no balloon",
            Hardware { bus: Bus::Ide, cpus: 2, vga: false, balloon: false, cpu: "max", ..usual() },
            Model::E1000,
        ),
    ]
}

/// Every combination.
pub(super) fn matrix() -> Vec<Case> {
    let mut cases = vec![Case::new("matrix: two processors, cards with two pairs of queues", several_queues)];
    for firmware in [Firmware::SeaBios, Firmware::Ovmf, Firmware::OvmfSecure] {
        for chipset in [Chipset::I440fx, Chipset::Q35] {
            if firmware == Firmware::OvmfSecure && chipset == Chipset::I440fx {
                // Secure Boot's variables need the system management mode of q35.
                continue;
            }
            for bus in [Bus::VirtioScsi, Bus::VirtioScsiSingle, Bus::VirtioBlk, Bus::Sata, Bus::Ide] {
                for model in [Model::Virtio, Model::E1000] {
                    let name = format!("matrix: {firmware:?} {chipset:?} {bus:?} {model:?}");
                    cases.push(case(name, Hardware { firmware, chipset, bus, ..Unit::hardware() }, model));
                }
            }
        }
    }
    cases
}
