//! The empty file system of the state partition: on the disk, and as a template in the initramfs, for a reset.
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::run;

/// Features are named one by one, so that the tool's version and its configuration do not show.
const FEATURES: &str = "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,\
                        huge_file,dir_nlink,extra_isize,metadata_csum";
const IDENTIFIER: &str = "0c7f2b51-8a0e-4d7e-9b57-736978676174";
/// 2026-01-01.
const TIME: &str = "1767225600";
const BLOCK: usize = 4096;

/// Makes a file system of so many bytes.
pub(super) fn build(folder: &Path, bytes: u64) -> Result<Vec<u8>> {
    let path = folder.join("state.ext4");
    fs::File::create(&path)?.set_len(bytes)?;
    let configuration = folder.join("mke2fs.conf");
    fs::write(
        &configuration,
        "[fs_types]\n\text4 = {\n\t\tblocksize = 4096\n\t}\n\tsmall = {\n\t\tblocksize = 4096\n\t}\n",
    )?;
    let mut command = Command::new("/sbin/mke2fs");
    command.env("MKE2FS_CONFIG", configuration).env("E2FSPROGS_FAKE_TIME", TIME);
    command.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-N", "1024", "-m", "0", "-O", FEATURES]);
    command.args(["-J", "size=4", "-L", "sixgate-state", "-U", IDENTIFIER, "-e", "remount-ro"]);
    command.arg("-E").arg(format!("hash_seed={IDENTIFIER},root_owner=0:0,lazy_itable_init=0,nodiscard"));
    run(command.arg(&path))?;
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The blocks that are not zero, each behind its number: what process 1 writes to make the partition new.
pub(super) fn template(file_system: &[u8]) -> Vec<u8> {
    let mut template = Vec::new();
    for (number, block) in (0_u32..).zip(file_system.chunks(BLOCK)) {
        if block.iter().any(|byte| *byte != 0) {
            template.extend(number.to_le_bytes());
            template.extend(block);
        }
    }
    template
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_holds_what_is_not_zero() {
        let mut file_system = vec![0; 5 * BLOCK];
        file_system[3 * BLOCK + 7] = 1;
        let template = template(&file_system);
        assert_eq!((template.len(), &template[..4], template[11]), (BLOCK + 4, &[3, 0, 0, 0][..], 1));
    }
}
