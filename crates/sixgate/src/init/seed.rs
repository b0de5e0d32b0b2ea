//! Where a configuration can come from outside: a NoCloud drive, an SMBIOS string, the kernel's command line.
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use ct_codecs::{Base64, Decoder as _};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use sixgate_linux::pid1;

use super::cloud_init::{self, Network, User};
use super::{partition, state};

/// The value that holds a whole configuration in Base64, as SMBIOS string and on the kernel's command line.
const VALUE: &str = "sixgate.config";
const DMI: &str = "/sys/firmware/dmi/tables/DMI";
const DRIVE: &str = "/run/seed";
const LABEL: &str = "cidata";
/// Proxmox allows snippets of up to 1 MiB.
const MOST: u64 = 1 << 20;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Seed {
    /// What to call where it comes from.
    pub(crate) source: &'static str,
    /// Changes whenever the seed does.
    pub(crate) instance: String,
    pub(crate) user: User,
    pub(crate) network: Option<Network>,
    /// What could not be understood.
    pub(crate) complaints: Vec<String>,
}

/// Looks everywhere; the command line goes before SMBIOS, SMBIOS before a drive.
pub(crate) fn look() -> Option<Seed> {
    if let Some(value) = pid1::kernel_argument(VALUE) {
        return Some(encoded("the kernel's command line", &value));
    }
    let table = fs::read(DMI).unwrap_or_default();
    let prefix = format!("{VALUE}=");
    if let Some(value) = oem_strings(&table).into_iter().find_map(|text| text.strip_prefix(&prefix).map(str::to_owned))
    {
        return Some(encoded("SMBIOS", &value));
    }
    drive()
}

fn encoded(source: &'static str, value: &str) -> Seed {
    let mut seed = Seed { source, instance: value.to_owned(), ..Seed::default() };
    match Base64::decode_to_vec(value, None).ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
        Some(text) => seed.user.toml = Some(text),
        None => seed.complaints.push(format!("the value {VALUE} is no text in Base64")),
    }
    seed
}

/// Strings of type 11 in a table of SMBIOS structures (DSP0134 section 6.1).
fn oem_strings(mut table: &[u8]) -> Vec<String> {
    const OEM_STRINGS: u8 = 11;
    let mut found = Vec::new();
    while let [kind, length, ..] = *table {
        let Some(behind) = table.get(usize::from(length.max(4))..) else { break };
        // The strings end with an empty one; where there are none, two zeros stand for them.
        let Some(end) = behind.windows(2).position(|pair| pair == [0, 0]) else { break };
        if kind == OEM_STRINGS {
            let strings = behind[..end].split(|byte| *byte == 0).filter(|text| !text.is_empty());
            found.extend(strings.map(|text| String::from_utf8_lossy(text).into_owned()));
        }
        table = &behind[end + 2..];
    }
    found
}

fn drive() -> Option<Seed> {
    let device = partition::drives().into_iter().find(|device| is_seed(device))?;
    fs::create_dir_all(DRIVE).ok()?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let mounted = ["iso9660", "vfat"].iter().any(|kind| mount(&device, DRIVE, *kind, flags, c"").is_ok());
    if !mounted {
        return Some(Seed {
            source: "the cloud-init drive",
            complaints: vec![format!("{} cannot be mounted", device.display())],
            ..Seed::default()
        });
    }
    let read = |name: &str| state::read_text(&Path::new(DRIVE).join(name), MOST);
    let (meta_data, user_data, network_config) = (read("meta-data"), read("user-data"), read("network-config"));
    let _ = unmount(DRIVE, UnmountFlags::DETACH);
    Some(understand(&meta_data.unwrap_or_default(), &user_data.unwrap_or_default(), network_config.as_deref()))
}

fn understand(meta_data: &str, user_data: &str, network_config: Option<&str>) -> Seed {
    let mut seed = Seed { source: "the cloud-init drive", ..Seed::default() };
    seed.instance = cloud_init::instance(meta_data).unwrap_or_default();
    match cloud_init::user(user_data) {
        Ok(user) => seed.user = user,
        Err(error) => seed.complaints.push(format!("user-data: {error}")),
    }
    match network_config.map(cloud_init::network).transpose() {
        Ok(network) => seed.network = network,
        Err(error) => seed.complaints.push(format!("network-config: {error}")),
    }
    seed
}

/// Whether a drive has the label, as ISO 9660 or as FAT has it.
fn is_seed(device: &Path) -> bool {
    let Ok(file) = File::open(device) else { return false };
    let label = |at: u64, length: usize| {
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, at).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim_matches(['\0', ' ']).to_lowercase())
    };
    [(32_808, 32), (43, 11), (71, 11)]
        .into_iter()
        .any(|(at, length)| label(at, length).is_some_and(|found| found == LABEL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oem_strings_are_found_behind_other_structures() {
        let mut table = vec![0, 6, 0, 0, 1, 2];
        table.extend(b"BIOS\0Vendor\0\0");
        table.extend([32, 5, 1, 0, 9, 0, 0]);
        table.extend([11, 5, 2, 0, 2]);
        table.extend(b"io.example=1\0sixgate.config=YQ==\0\0");
        table.extend([127, 4, 3, 0, 0, 0]);
        assert_eq!(oem_strings(&table), ["io.example=1", "sixgate.config=YQ=="]);
        for length in 0..table.len() {
            let _ = oem_strings(&table[..length]);
        }
        assert!(oem_strings(&[11, 255, 0, 0]).is_empty());
    }

    #[test]
    fn a_value_holds_a_configuration_in_base64() {
        let seed = encoded("SMBIOS", "aG9zdG5hbWUgPSAieCIK");
        assert_eq!(seed.user.toml.as_deref(), Some("hostname = \"x\"\n"));
        assert_eq!(encoded("SMBIOS", "%%%").complaints.len(), 1);
    }

    #[test]
    fn what_cannot_be_understood_is_a_complaint_and_the_rest_goes_on() {
        let seed = understand("instance-id: 1\n", "#cloud-config\nhostname: edge\n", Some("version: 2\n"));
        assert_eq!((seed.instance.as_str(), seed.user.hostname.as_deref()), ("1", Some("edge")));
        assert!(seed.network.is_none() && seed.complaints[0].starts_with("network-config: "));
    }
}
