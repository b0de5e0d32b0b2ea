//! Debian's kernel: its package is downloaded and unpacked under `target/`, never installed.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use sixgate_qemu::Boot;

use super::apt;
use crate::command::{root, run};

#[derive(Deserialize)]
struct Choice {
    packages: Vec<String>,
}

/// An unpacked kernel package.
pub(crate) struct Kernel {
    /// The package's file name without its ending: name, version, architecture.
    pub(crate) package: String,
    /// What the kernel calls itself, and its folder of modules is called.
    pub(crate) release: String,
    /// The unpacked tree.
    pub(crate) tree: PathBuf,
}

/// Finds the newest kernel of `image/kernel.toml`; without apt's answer, the one that is there already.
pub(crate) fn fetch(folder: &Path) -> Result<Kernel> {
    let cache = folder.join("kernel");
    fs::create_dir_all(&cache)?;
    let text = fs::read_to_string(root().join("image/kernel.toml")).context("cannot read image/kernel.toml")?;
    let choice: Choice = toml::from_str(&text).context("image/kernel.toml")?;
    prepare(&cache, &apt::fetch(&choice.packages, kernel_dependency, &cache)?)
}

/// The kernel of a package, or of the newest that it stands for.
pub(crate) fn named(cache: &Path, package: &str) -> Result<Kernel> {
    fs::create_dir_all(cache)?;
    prepare(cache, &apt::fetch(&[package.to_owned()], kernel_dependency, cache)?)
}

/// The kernel that a meta package depends on.
fn kernel_dependency(depends: &str) -> Option<String> {
    let names = depends.split(',').filter_map(|dependency| dependency.split_whitespace().next());
    names.into_iter().find(|name| name.starts_with("linux-image-")).map(str::to_owned)
}

/// Unpacks the package and completes its tree, once.
fn prepare(cache: &Path, package: &str) -> Result<Kernel> {
    let tree = cache.join(package);
    if !tree.is_dir() {
        let partial = cache.join("partial-tree");
        let _ = fs::remove_dir_all(&partial);
        run(Command::new("dpkg-deb").arg("--extract").arg(cache.join(format!("{package}.deb"))).arg(&partial))?;
        // Debian 13 unpacks into /usr/lib, Debian 12 into /lib; depmod wants the latter.
        if !partial.join("lib").exists() {
            std::os::unix::fs::symlink("usr/lib", partial.join("lib"))?;
        }
        let release = release(&partial)?;
        // The package comes without the modules' dependencies.
        run(Command::new("/sbin/depmod").arg("--basedir").arg(&partial).arg(&release))?;
        fs::rename(&partial, &tree)?;
    }
    Ok(Kernel { package: package.to_owned(), release: release(&tree)?, tree })
}

/// The name of the only folder of modules.
fn release(tree: &Path) -> Result<String> {
    let folder = tree.join("lib/modules");
    let mut entries = fs::read_dir(&folder).with_context(|| format!("no modules in {}", folder.display()))?;
    let entry = entries.next().context("the kernel's package has no folder of modules")??;
    entry.file_name().into_string().ok().context("a kernel's release is ASCII")
}

impl Kernel {
    /// Copies the kernel to where the image is, uncompressed as well where that is possible.
    pub(crate) fn install(&self, folder: &Path, initrd: PathBuf) -> Result<Boot> {
        let packed = self.tree.join("boot").join(format!("vmlinuz-{}", self.release));
        let image = fs::read(&packed).with_context(|| format!("cannot read {}", packed.display()))?;
        super::write_if_changed(&folder.join("vmlinuz"), &image)?;
        let plain = folder.join("vmlinux");
        let stamp = folder.join("vmlinux.package");
        if fs::read_to_string(&stamp).is_ok_and(|package| package == self.package) && plain.is_file() {
            return Ok(Boot { kernel: plain, initrd });
        }
        match unpack(&image, folder) {
            Ok(unpacked) => {
                fs::rename(unpacked, &plain)?;
                fs::write(stamp, &self.package)?;
                Ok(Boot { kernel: plain, initrd })
            }
            Err(error) => {
                eprintln!("booting the packed kernel, which takes some seconds longer: {error:#}");
                let _ = fs::remove_file(plain);
                Ok(Boot { kernel: folder.join("vmlinuz"), initrd })
            }
        }
    }
}

/// Unpacks the vmlinux inside a bzImage. QEMU enters it directly (PVH), without the kernel unpacking itself under emulation.
fn unpack(image: &[u8], folder: &Path) -> Result<PathBuf> {
    let payload = folder.join("vmlinux.zst");
    fs::write(&payload, zstd_payload(image)?)?;
    let unpacked = folder.join("vmlinux.partial");
    run(Command::new("zstd").args(["--quiet", "--force", "--decompress", "-o"]).arg(&unpacked).arg(&payload))?;
    fs::remove_file(payload)?;
    Ok(unpacked)
}

/// The compressed kernel inside a bzImage, by the fields of Linux's x86 boot protocol (2.08 and later).
fn zstd_payload(image: &[u8]) -> Result<&[u8]> {
    let number = |at: usize| -> Result<usize> {
        let bytes = image.get(at..at + 4).context("a truncated bzImage")?;
        Ok(u32::from_le_bytes(bytes.try_into()?) as usize)
    };
    if image.get(0x202..0x206) != Some(b"HdrS") {
        bail!("this is not a bzImage");
    }
    let setup_sectors = match image[0x1f1] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (setup_sectors + 1) * 512 + number(0x248)?;
    // The last four bytes are the unpacked size, not part of the compressed stream.
    let end = (start + number(0x24c)?).checked_sub(4).context("an empty payload")?;
    let payload = image.get(start..end).context("the payload lies outside the bzImage")?;
    if !payload.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        bail!("this kernel is not packed with zstd");
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_kernel_among_the_dependencies_is_followed() {
        assert_eq!(
            kernel_dependency("linux-image-6.12.48+deb13-cloud-amd64 (= 6.12.48-1)").as_deref(),
            Some("linux-image-6.12.48+deb13-cloud-amd64")
        );
        assert_eq!(kernel_dependency("kmod, linux-base (>= 4.3~), initramfs-tools"), None);
    }

    #[test]
    fn the_payload_is_found_by_the_boot_protocols_fields() {
        let mut image = vec![0; 4096];
        image[0x1f1] = 3;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&16u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&12u32.to_le_bytes());
        image[2064..2076].copy_from_slice(b"\x28\xb5\x2f\xfdkern\x04\x00\x00\x00");
        assert_eq!(zstd_payload(&image).unwrap(), b"\x28\xb5\x2f\xfdkern");
        image.truncate(2070);
        assert!(zstd_payload(&image).is_err());
        assert!(zstd_payload(b"").is_err());
    }
}
