//! Kernel modules: found by name or by the hardware's alias, loaded behind what they depend on.
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::system::{finit_module, init_module, uname};

/// The modules of the running kernel that the image carries.
#[derive(Debug, Default)]
pub struct Modules {
    home: PathBuf,
    /// Module name to its file and the files it depends on, nearest first.
    files: BTreeMap<String, (String, Vec<String>)>,
    /// Patterns of hardware and names.
    aliases: Vec<Alias>,
    /// What else is worth loading before and after a module, if it is there.
    soft: BTreeMap<String, Soft>,
    loaded: BTreeSet<String>,
    /// Hardware that was served, or that nothing serves.
    looked_at: BTreeSet<String>,
}

/// A pattern and the module that serves what it fits.
#[derive(Debug)]
struct Alias {
    pattern: CString,
    /// Bytes of the pattern before its first wildcard: most patterns are told apart by them.
    plain: usize,
    module: String,
}

#[derive(Clone, Debug, Default)]
struct Soft {
    before: Vec<String>,
    after: Vec<String>,
}

impl Modules {
    /// Reads the tables of the running kernel; a kernel without modules has empty ones.
    pub fn open() -> Self {
        let release = uname().release().to_string_lossy().into_owned();
        Self::read(&Path::new("/lib/modules").join(release))
    }

    fn read(home: &Path) -> Self {
        let table = |name| fs::read_to_string(home.join(name)).unwrap_or_default();
        let mut modules = Self::parse(&table("modules.dep"), &table("modules.alias"));
        modules.soft = table("modules.softdep").lines().filter_map(soft_dependency).collect();
        modules.home = home.to_owned();
        modules
    }

    fn parse(dependencies: &str, aliases: &str) -> Self {
        let files = dependencies.lines().filter_map(|line| {
            let (file, needs) = line.split_once(':')?;
            Some((module_name(file), (file.to_owned(), needs.split_whitespace().map(str::to_owned).collect())))
        });
        let aliases = aliases.lines().filter_map(|line| {
            let mut words = line.strip_prefix("alias ")?.split_whitespace();
            let pattern = underscored(words.next()?);
            let plain = pattern.find(['*', '?', '[', '\\']).unwrap_or(pattern.len());
            Some(Alias { pattern: CString::new(pattern).ok()?, plain, module: module_name(words.next()?) })
        });
        Self { files: files.collect(), aliases: aliases.collect(), ..Self::default() }
    }

    /// Loads a module by its name or an alias of it, dependencies first. Returns how many were new; a name that nothing
    /// serves loads none, as it may be built in. Of several that serve an alias one has to work.
    pub fn load(&mut self, name: &str) -> io::Result<usize> {
        let mut count = 0;
        let mut failed = None;
        let serving = self.serving(name);
        let several = serving.len();
        let mut failures = 0;
        for module in serving {
            match self.load_module(&module, &mut BTreeSet::new()) {
                Ok(new) => count += new,
                Err(error) => {
                    failures += 1;
                    failed.get_or_insert(error);
                }
            }
        }
        match failed {
            Some(error) if failures == several => Err(error),
            _ => Ok(count),
        }
    }

    /// Loads the drivers of all hardware that was not there when it was called before. What a driver reveals may need another
    /// one, so callers repeat this until nothing is new.
    pub fn cold_plug(&mut self) -> usize {
        let mut count = 0;
        for alias in hardware(Path::new("/sys/bus")) {
            if !self.looked_at.insert(alias.clone()) {
                continue;
            }
            count += self.load(&alias).unwrap_or_else(|error| {
                tracing::warn!("no driver for {alias}: {error}");
                0
            });
        }
        count
    }

    /// All modules that the image carries.
    pub(super) fn names(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }

    fn serving(&self, name: &str) -> Vec<String> {
        let plain = module_name(name);
        if self.files.contains_key(&plain) {
            return vec![plain];
        }
        let Ok(wanted) = CString::new(name.replace('-', "_")) else { return Vec::new() };
        let matching = self.aliases.iter().filter(|alias| alias.matches(&wanted));
        matching.map(|alias| alias.module.clone()).collect()
    }

    /// `above` are the modules whose wishes led here: soft dependencies may go in circles.
    fn load_module(&mut self, name: &str, above: &mut BTreeSet<String>) -> io::Result<usize> {
        let Some((file, needs)) = self.files.get(name).cloned() else { return Ok(0) };
        if !above.insert(name.to_owned()) {
            return Ok(0);
        }
        let soft = self.soft.get(name).cloned().unwrap_or_default();
        let mut count = self.load_softly(&soft.before, above);
        for file in needs.iter().rev().chain([&file]) {
            let name = module_name(file);
            if self.loaded.contains(&name) {
                continue;
            }
            insert(&self.home.join(file)).map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
            self.loaded.insert(name);
            count += 1;
        }
        Ok(count + self.load_softly(&soft.after, above))
    }

    fn load_softly(&mut self, names: &[String], above: &mut BTreeSet<String>) -> usize {
        let wished: Vec<String> = names.iter().flat_map(|name| self.serving(name)).collect();
        // A soft dependency that fails does not matter to the module that wishes for it.
        wished.iter().map(|module| self.load_module(module, above).unwrap_or_default()).sum()
    }
}

/// A module's name as the kernel writes it, from a path or a name with dashes.
fn module_name(file: &str) -> String {
    let file = file.rsplit('/').next().unwrap_or(file);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

/// A pattern with `_` for `-`, which the kernel takes for the same, but for the ranges in brackets.
fn underscored(pattern: &str) -> String {
    let mut inside = false;
    let character = |character| {
        inside = (inside || character == '[') && character != ']';
        if character == '-' && !inside { '_' } else { character }
    };
    pattern.chars().map(character).collect()
}

/// `softdep MODULE pre: A B post: C`.
fn soft_dependency(line: &str) -> Option<(String, Soft)> {
    let mut words = line.strip_prefix("softdep ")?.split_whitespace();
    let module = module_name(words.next()?);
    let mut soft = Soft::default();
    let mut list = &mut soft.before;
    for word in words {
        match word {
            "pre:" => list = &mut soft.before,
            "post:" => list = &mut soft.after,
            name => list.push(name.to_owned()),
        }
    }
    Some((module, soft))
}

fn insert(path: &Path) -> io::Result<()> {
    /// MODULE_INIT_COMPRESSED_FILE of linux/module.h: the kernel unpacks the file itself.
    const COMPRESSED: i32 = 4;
    let packed = path.extension().is_some_and(|extension| extension != "ko");
    let loaded = match finit_module(File::open(path)?, c"", if packed { COMPRESSED } else { 0 }) {
        // The file system it lies on may refuse to hand out its pages.
        Err(Errno::NOEXEC | Errno::NOSYS) if !packed => init_module(&fs::read(path)?, c""),
        other => other,
    };
    match loaded {
        // Loaded before us, by the kernel's own request.
        Err(Errno::EXIST) => Ok(()),
        other => Ok(other?),
    }
}

/// The aliases of all devices on all buses.
fn hardware(buses: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for bus in entries(buses) {
        for device in entries(&bus.join("devices")) {
            if let Ok(alias) = fs::read_to_string(device.join("modalias")) {
                let alias = alias.trim();
                if !alias.is_empty() {
                    found.insert(alias.to_owned());
                }
            }
        }
    }
    found
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

impl Alias {
    fn matches(&self, name: &CString) -> bool {
        // The C library takes long over each, and there are some thousands of them.
        if name.as_bytes().get(..self.plain) != self.pattern.as_bytes().get(..self.plain) {
            return false;
        }
        // SAFETY: both are NUL-terminated strings that live through the call, which only reads them.
        unsafe { libc::fnmatch(self.pattern.as_ptr(), name.as_ptr(), 0) == 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules() -> Modules {
        Modules::parse(
            "kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko\n\
             kernel/drivers/char/hw_random/virtio-rng.ko:\n\
             kernel/net/netfilter/nft_ct.ko:\n",
            "# Aliases extracted from modules themselves.\n\
             alias virtio:d00000001v* virtio_net\n\
             alias virtio:d00000004v* virtio_rng\n\
             alias nft-expr-1-ct nft_ct\n\
             alias acpi*:PNP0C0C:* button\n",
        )
    }

    #[test]
    fn hardware_finds_its_driver() {
        assert_eq!(modules().serving("virtio:d00000001v00001AF4"), ["virtio_net"]);
        assert!(modules().serving("virtio:d00000002v00001AF4").is_empty());
    }

    #[test]
    fn dashes_and_underscores_are_the_same() {
        assert_eq!(modules().serving("virtio-rng"), ["virtio_rng"]);
        assert_eq!(modules().serving("nft-expr-1-ct"), ["nft_ct"]);
    }

    #[test]
    fn brackets_in_a_pattern_keep_their_ranges() {
        assert_eq!(underscored("usb-serial:v[0-9a-f]*dc-dp-"), "usb_serial:v[0-9a-f]*dc_dp_");
        let modules = Modules::parse("kernel/a.ko:\n", "alias usb:v[0-9]d* a\n");
        assert_eq!(modules.serving("usb:v7d1"), ["a"]);
        assert!(modules.serving("usb:v-d1").is_empty());
    }

    #[test]
    fn soft_dependencies_are_wishes_and_may_go_in_circles() {
        let (name, soft) = soft_dependency("softdep nft-ct pre: virtio-rng post: nft_ct nothing").unwrap();
        assert_eq!((name.as_str(), &soft.before[..]), ("nft_ct", &["virtio-rng".to_owned()][..]));
        assert_eq!(soft.after, ["nft_ct", "nothing"]);
        assert!(soft_dependency("# softdep").is_none() && soft_dependency("softdep ").is_none());
        let mut modules = modules();
        modules.soft.insert(name, soft);
        // The wish cannot be loaded here, and the module's own failure is the one that is told.
        let error = modules.load("nft_ct").unwrap_err();
        assert!(error.to_string().starts_with("nft_ct: "), "{error}");
    }

    #[test]
    fn a_name_that_nothing_serves_loads_nothing() {
        assert_eq!(modules().load("net-pf-77").unwrap(), 0);
        // An alias may name a module that the image does not carry.
        assert_eq!(modules().load("acpi:PNP0C0C:").unwrap(), 0);
    }

    #[test]
    fn a_module_that_cannot_be_read_is_named() {
        let error = modules().load("nft_ct").unwrap_err();
        assert!(error.to_string().starts_with("nft_ct: "), "{error}");
    }
}
