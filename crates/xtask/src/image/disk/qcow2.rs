//! QEMU's qcow2 format, version 3, with compressed clusters; the same disk gives the same bytes.
use anyhow::{Result, bail};
use flate2::{Compress, Compression, FlushCompress, Status};

const CLUSTER_BITS: u32 = 16;
const CLUSTER: usize = 1 << CLUSTER_BITS;
/// Clusters that one table of the second level maps, and that one block of 16-bit counters counts.
const PER_TABLE: usize = CLUSTER / 8;
const PER_COUNTERS: usize = CLUSTER / 2;
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
/// Where a compressed cluster's length in sectors begins in its entry.
const LENGTH_AT: u32 = 62 - (CLUSTER_BITS - 8);
/// QEMU inflates with a window of 4 KiB.
const WINDOW_BITS: u8 = 12;

/// Converts a whole disk.
pub(crate) fn convert(disk: &[u8]) -> Result<Vec<u8>> {
    let clusters = disk.len().div_ceil(CLUSTER);
    let tables = clusters.div_ceil(PER_TABLE);
    // Header, table of counters, one block of counters, first level, second level, then the content.
    let (first_level, second_level) = (3, 4);
    let mut out = vec![0; (second_level + tables) * CLUSTER];
    let mut counters = vec![1_u16; second_level + tables];
    let mut second = vec![0_u64; tables * PER_TABLE];
    for (index, cluster) in disk.chunks(CLUSTER).enumerate() {
        if cluster.iter().all(|byte| *byte == 0) {
            continue;
        }
        let packed = deflate(cluster);
        second[index] = match packed {
            Some(packed) => {
                let start = out.len() as u64;
                out.extend(&packed);
                let end = out.len() as u64 - 1;
                for counted in start >> CLUSTER_BITS..=end >> CLUSTER_BITS {
                    count(&mut counters, counted as usize);
                }
                start | (end / 512 - start / 512) << LENGTH_AT | COMPRESSED
            }
            None => {
                out.resize(out.len().next_multiple_of(CLUSTER), 0);
                let start = out.len();
                out.extend(cluster);
                out.resize(start + CLUSTER, 0);
                count(&mut counters, start / CLUSTER);
                start as u64 | COPIED
            }
        };
    }
    out.resize(out.len().next_multiple_of(CLUSTER), 0);
    if counters.len() > PER_COUNTERS {
        bail!("a disk with so much content needs more counters than this writes");
    }
    let put = |out: &mut Vec<u8>, cluster: usize, bytes: &[u8]| {
        out[cluster * CLUSTER..cluster * CLUSTER + bytes.len()].copy_from_slice(bytes);
    };
    put(&mut out, 0, &header(disk.len() as u64, tables, first_level));
    put(&mut out, 1, &(2 * CLUSTER as u64).to_be_bytes());
    put(&mut out, 2, &counters.iter().flat_map(|counter| counter.to_be_bytes()).collect::<Vec<_>>());
    let first = (0..tables).map(|table| ((second_level + table) * CLUSTER) as u64 | COPIED);
    put(&mut out, first_level, &first.flat_map(u64::to_be_bytes).collect::<Vec<_>>());
    put(&mut out, second_level, &second.iter().flat_map(|entry| entry.to_be_bytes()).collect::<Vec<_>>());
    Ok(out)
}

fn count(counters: &mut Vec<u16>, cluster: usize) {
    counters.resize(counters.len().max(cluster + 1), 0);
    counters[cluster] += 1;
}

fn header(size: u64, tables: usize, first_level: usize) -> Vec<u8> {
    let mut header = b"QFI\xfb".to_vec();
    header.extend(3_u32.to_be_bytes());
    header.extend([0; 12]); // no backing file
    header.extend(CLUSTER_BITS.to_be_bytes());
    header.extend(size.to_be_bytes());
    header.extend(0_u32.to_be_bytes()); // not encrypted
    header.extend((tables as u32).to_be_bytes());
    header.extend(((first_level * CLUSTER) as u64).to_be_bytes());
    header.extend((CLUSTER as u64).to_be_bytes());
    header.extend(1_u32.to_be_bytes());
    header.extend([0; 12]); // no snapshots
    header.extend([0; 24]); // no features
    header.extend(4_u32.to_be_bytes()); // counters of 16 bits
    header.extend(104_u32.to_be_bytes());
    header
}

/// A compressed cluster, when that saves something.
fn deflate(cluster: &[u8]) -> Option<Vec<u8>> {
    let mut whole = cluster.to_vec();
    whole.resize(CLUSTER, 0);
    let mut packed = Vec::with_capacity(CLUSTER);
    let mut compress = Compress::new_with_window_bits(Compression::best(), false, WINDOW_BITS);
    let status = compress.compress_vec(&whole, &mut packed, FlushCompress::Finish).ok()?;
    (status == Status::StreamEnd && packed.len() < CLUSTER * 15 / 16).then_some(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_take_no_room_and_text_little() {
        let mut disk = vec![0; 64 * CLUSTER];
        disk[5 * CLUSTER..6 * CLUSTER].fill(b'x');
        let image = convert(&disk).unwrap();
        assert_eq!(image.len(), 6 * CLUSTER);
        assert_eq!(image, convert(&disk).unwrap());
    }

    #[test]
    fn noise_is_stored_as_it_is() {
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let disk: Vec<u8> = (0..CLUSTER).map(|_| noise()).collect();
        let image = convert(&disk).unwrap();
        assert_eq!(image[5 * CLUSTER..], disk[..]);
    }
}
