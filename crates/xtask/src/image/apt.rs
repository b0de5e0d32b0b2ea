//! Debian's packages: downloaded into a cache and unpacked there, never installed.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::{output, run, target};

/// Which of a package's dependencies stands for it, when it is a name for the newest version only.
pub(crate) type Follow = fn(&str) -> Option<String>;

/// The package itself is what is wanted.
pub(crate) fn itself(_: &str) -> Option<String> {
    None
}

/// Has the newest of the packages in the cache, the first that apt knows; without apt's answer, the one that is there
/// already. Returns its file's name without the ending: name, version, architecture.
pub(crate) fn fetch(packages: &[String], follow: Follow, cache: &Path) -> Result<String> {
    fs::create_dir_all(cache)?;
    match download(packages, follow, cache) {
        Ok(package) => Ok(package),
        Err(error) => newest_cached(cache)?.ok_or(error),
    }
}

/// Downloads a package and unpacks it beside itself, once. Returns the package's file and the tree.
pub(crate) fn unpacked(name: &str, cache: &Path) -> Result<(PathBuf, PathBuf)> {
    let cache = cache.join(name);
    let package = fetch(&[name.to_owned()], itself, &cache)?;
    let file = cache.join(format!("{package}.deb"));
    let tree = cache.join(package);
    if !tree.is_dir() {
        let partial = cache.join("partial-tree");
        let _ = fs::remove_dir_all(&partial);
        run(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(&partial))?;
        fs::rename(&partial, &tree)?;
    }
    Ok((file, tree))
}

/// Has the newest package in the cache and returns its name.
fn download(packages: &[String], follow: Follow, cache: &Path) -> Result<String> {
    if let Ok(package) = Apt::system().download(packages, follow, cache) {
        return Ok(package);
    }
    // Fresh machines have no package lists, others have old ones, and only root may fetch the system's. Private ones
    // need nobody, and serve as long as what they name is here.
    let apt = Apt::private(&target().join("image"))?;
    if let Some((package, _)) = apt.resolve(packages, follow)
        && cache.join(format!("{package}.deb")).is_file()
    {
        return Ok(package);
    }
    run(&mut apt.command("apt-get", &["--quiet", "update"]))?;
    apt.download(packages, follow, cache)
}

/// The system's apt, or one with lists of its own.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn system() -> Self {
        Self { options: Vec::new() }
    }

    fn private(folder: &Path) -> Result<Self> {
        let home = folder.join("apt");
        for folder in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(home.join(folder))?;
        }
        let home = home.display();
        Ok(Self { options: vec![format!("-oDir::State::Lists={home}/lists"), format!("-oDir::Cache={home}")] })
    }

    fn command(&self, program: &str, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        // Apt's own user may not write under the target folder.
        command.args(&self.options).arg("-oAPT::Sandbox::User=").args(words);
        command
    }

    /// Downloads the first package that apt knows, unless it is here.
    fn download(&self, packages: &[String], follow: Follow, cache: &Path) -> Result<String> {
        let found = self.resolve(packages, follow);
        let (package, wanted) =
            found.with_context(|| format!("apt knows none of the packages {}", packages.join(", ")))?;
        let file = cache.join(format!("{package}.deb"));
        if !file.is_file() {
            let partial = cache.join("partial");
            fs::create_dir_all(&partial)?;
            run(self.command("apt-get", &["--quiet", "download", &wanted]).current_dir(&partial))?;
            fs::rename(partial.join(format!("{package}.deb")), file)
                .with_context(|| format!("apt-get did not download {package}.deb"))?;
        }
        Ok(package)
    }

    /// The first package that apt knows, followed through meta packages: the name of its file without
    /// the ending, and what to ask apt for.
    fn resolve(&self, packages: &[String], follow: Follow) -> Option<(String, String)> {
        let show = |name: &str| {
            let text = output(&mut self.command("apt-cache", &["show", "--no-all-versions", name])).ok()?;
            field(&text, "Version")?;
            Some(text)
        };
        let (mut name, mut text) = packages.iter().find_map(|name| Some((name.clone(), show(name)?)))?;
        while let Some(next) = follow(field(&text, "Depends").unwrap_or_default()) {
            text = show(&next)?;
            name = next;
        }
        let (version, architecture) = (field(&text, "Version")?, field(&text, "Architecture")?);
        // Versions with an epoch have their colon escaped in the file's name.
        Some((format!("{name}_{}_{architecture}", version.replace(':', "%3a")), format!("{name}={version}")))
    }
}

/// A field of apt's description of a package.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The package downloaded last, for work without a network.
fn newest_cached(cache: &Path) -> Result<Option<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        if let Some(package) = entry.file_name().to_str().and_then(|name| name.strip_suffix(".deb")) {
            found.push((entry.metadata()?.modified()?, package.to_owned()));
        }
    }
    Ok(found.into_iter().max().map(|(_, package)| package))
}
