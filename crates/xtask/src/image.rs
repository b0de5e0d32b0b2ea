//! The appliance's kernel and initramfs.
use anyhow::{Result, bail};

/// A built image.
pub(crate) struct Image;

impl Image {
    /// Prints what was built.
    pub(crate) fn report(&self) {}
}

/// Builds the image into `target/image`.
pub(crate) fn build() -> Result<Image> {
    bail!("the image is not built yet")
}
