//! The disk's partitions, found by the names that they have in the partition table.
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

const BLOCK_DEVICES: &str = "/sys/class/block";
/// Controllers look for their disks while the rest of the machine starts.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The device of the partition with this name, waiting for it to appear.
pub(crate) fn wait_for(name: &str, patience: Duration) -> Option<PathBuf> {
    let deadline = Instant::now() + patience;
    loop {
        match find(name) {
            None if Instant::now() < deadline => thread::sleep(LOOK_AGAIN),
            found => return found,
        }
    }
}

/// The device of the partition with this name. Of several the first by name: the disks are numbered as they are attached.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    find_in(Path::new(BLOCK_DEVICES), name)
}

fn find_in(devices: &Path, name: &str) -> Option<PathBuf> {
    let wanted = format!("PARTNAME={name}");
    let mut found: Vec<_> = fs::read_dir(devices)
        .ok()?
        .flatten()
        .filter(|device| {
            let described = fs::read_to_string(device.path().join("uevent")).unwrap_or_default();
            described.lines().any(|line| line == wanted)
        })
        .map(|device| Path::new("/dev").join(device.file_name()))
        .collect();
    found.sort();
    found.into_iter().next()
}

/// All whole drives, partitions not among them.
pub(crate) fn drives() -> Vec<PathBuf> {
    let devices = fs::read_dir(BLOCK_DEVICES).into_iter().flatten().flatten();
    let whole =
        devices.filter(|device| !device.path().join("partition").exists() && device.path().join("device").exists());
    let mut drives: Vec<_> = whole.map(|device| Path::new("/dev").join(device.file_name())).collect();
    drives.sort();
    drives
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_found_by_its_name_on_the_first_disk() {
        let folder = tempfile::tempdir().unwrap();
        for (device, name) in [("sda5", "state"), ("sdb5", "state"), ("sda3", "slot-a"), ("sda", "")] {
            let home = folder.path().join(device);
            fs::create_dir_all(&home).unwrap();
            fs::write(home.join("uevent"), format!("DEVNAME={device}\nPARTNAME={name}\n")).unwrap();
        }
        assert_eq!(find_in(folder.path(), "state"), Some("/dev/sda5".into()));
        assert_eq!(find_in(folder.path(), "slot-b"), None);
        assert_eq!(find_in(Path::new("/nonexistent"), "state"), None);
    }
}
