//! Replays the corpora that fuzzing has found worth keeping.
use std::fs;
use std::path::{Path, PathBuf};

use sixgate_harness::TARGETS;

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
}

#[test]
fn what_fuzzing_found_does_no_harm() {
    for (name, target) in TARGETS {
        let mut count = 0;
        for file in fs::read_dir(corpora().join(name)).unwrap_or_else(|error| panic!("corpus of {name}: {error}")) {
            let path = file.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            // A failure names the file.
            let outcome = std::panic::catch_unwind(|| target(&bytes));
            assert!(outcome.is_ok(), "{} does", path.display());
            count += 1;
        }
        assert!(count > 0, "the corpus of {name} is empty");
    }
}

#[test]
fn every_corpus_has_a_target_and_every_target_a_fuzzer() {
    let names = |folder: &Path| -> Vec<String> {
        let files = fs::read_dir(folder).unwrap();
        let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut names: Vec<String> = files.map(|file| stem(file.unwrap().path())).collect();
        names.sort();
        names
    };
    let targets: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names(&corpora()), targets);
    assert_eq!(names(&corpora().join("../fuzz_targets")), targets);
}
