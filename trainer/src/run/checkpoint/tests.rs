use super::super::MANIFEST;
use super::*;
use std::io::Write;

pub(crate) fn write(checkpoints: &Checkpoints, step: u64, metric: Option<f64>) -> Checkpoint {
    checkpoints
        .write::<RunError>(step, metric, |folder| {
            fs::write(folder.join("adapter_model.safetensors"), step.to_string()).unwrap();
            fs::write(folder.join("state.json"), b"{}").unwrap();
            Ok(())
        })
        .unwrap()
}

fn three() -> (tempfile::TempDir, Checkpoints) {
    let output = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(output.path());
    for step in [2, 10, 9] {
        write(&checkpoints, step, None);
    }
    (output, checkpoints)
}

fn selected(checkpoints: &Checkpoints) -> (Option<u64>, Vec<Flaw>) {
    let selection = checkpoints.newest_whole().unwrap();
    (
        selection.checkpoint.map(|checkpoint| checkpoint.step),
        selection.passed_over.into_iter().map(|passed| passed.flaw).collect(),
    )
}

#[test]
fn checkpoints_are_listed_newest_first_by_number() {
    let (output, checkpoints) = three();
    let steps: Vec<u64> = checkpoints
        .list()
        .unwrap()
        .into_iter()
        .map(|status| match status {
            CheckpointStatus::Whole(checkpoint) => checkpoint.step,
            CheckpointStatus::Broken(passed_over) => panic!("{passed_over}"),
        })
        .collect();
    assert_eq!(steps, [10, 9, 2]);
    assert_eq!(fs::read_dir(output.path()).unwrap().count(), 3);
    let opened = Checkpoint::open(&output.path().join("checkpoint-9")).unwrap();
    assert_eq!(opened.step, 9);
    assert_eq!(checkpoints.open(9).unwrap(), opened);
    assert_eq!(fs::read(opened.file("state.json")).unwrap(), b"{}");
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_says_why() {
    type Damage = fn(&Path);
    let cases: [(Damage, &str); 8] = [
        (|folder| fs::remove_file(folder.join(MANIFEST)).unwrap(), "it has no manifest.json"),
        (|folder| fs::write(folder.join(MANIFEST), b"{\"for").unwrap(), "manifest.json cannot be read: EOF"),
        (|folder| fs::write(folder.join("state.json"), b"{").unwrap(), "state.json has 1 bytes instead of 2"),
        (|folder| fs::write(folder.join("state.json"), b"[]").unwrap(), "the content of state.json changed: sha256"),
        (|folder| fs::remove_file(folder.join("state.json")).unwrap(), "state.json is missing"),
        (|folder| fs::write(folder.join("optimizer.pt"), b"").unwrap(), "optimizer.pt is not listed in manifest.json"),
        (|folder| fs::create_dir(folder.join("more")).unwrap(), "more is not a regular file"),
        (
            |folder| {
                let other = folder.with_file_name("checkpoint-9");
                for name in [MANIFEST, "adapter_model.safetensors"] {
                    fs::copy(other.join(name), folder.join(name)).unwrap();
                }
            },
            "manifest.json is of step 9, the folder of step 10",
        ),
    ];
    for (damage, reason) in cases {
        let (output, checkpoints) = three();
        damage(&output.path().join("checkpoint-10"));
        let (step, flaws) = selected(&checkpoints);
        assert_eq!(step, Some(9), "{reason}");
        assert!(flaws[0].to_string().contains(reason), "{}", flaws[0]);
        let error = Checkpoint::open(&output.path().join("checkpoint-10")).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn when_all_are_broken_the_error_names_each() {
    let (output, checkpoints) = three();
    for step in [2, 9, 10] {
        fs::remove_file(output.path().join(format!("checkpoint-{step}/state.json"))).unwrap();
    }
    let error = checkpoints.newest_whole().unwrap().require(output.path()).unwrap_err();
    for step in [2, 9, 10] {
        let part = format!("checkpoint-{step} passed over: state.json is missing");
        assert!(error.to_string().contains(&part), "{error}");
    }
}

#[test]
fn a_failing_write_leaves_the_older_checkpoints_and_no_folder() {
    let (output, checkpoints) = three();
    let error = checkpoints
        .write::<RunError>(11, None, |folder| {
            fs::write(folder.join("state.json"), b"{}").unwrap();
            let path = folder.join("optimizer.safetensors");
            Err(RunError::io("writing", &path, io::ErrorKind::StorageFull.into()))
        })
        .unwrap_err();
    assert!(matches!(error, RunError::DiskFull { .. }), "{error}");
    assert_eq!(fs::read_dir(output.path()).unwrap().count(), 3);
    assert_eq!(selected(&checkpoints), (Some(10), vec![]));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_device_is_reported_as_a_full_disk() {
    let (output, checkpoints) = three();
    let error = checkpoints
        .write::<RunError>(11, None, |folder| {
            let path = folder.join("optimizer.safetensors");
            std::os::unix::fs::symlink("/dev/full", &path).unwrap();
            fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|mut file| file.write_all(b"moments"))
                .map_err(|error| RunError::io("writing", &path, error))
        })
        .unwrap_err();
    assert!(error.to_string().contains("the disk is full"), "{error}");
    assert_eq!(fs::read_dir(output.path()).unwrap().count(), 3);
}

#[test]
fn a_panic_in_the_middle_leaves_the_older_checkpoints() {
    let (output, checkpoints) = three();
    let result = std::panic::catch_unwind(|| {
        checkpoints.write::<RunError>(11, None, |folder| {
            fs::write(folder.join("state.json"), b"{}").unwrap();
            panic!("a bug in a writer")
        })
    });
    assert!(result.is_err());
    assert_eq!(fs::read_dir(output.path()).unwrap().count(), 3);
}

#[test]
fn leftovers_of_a_crash_are_ignored_then_cleaned() {
    let (output, checkpoints) = three();
    // Even a complete one: without its last rename it is no checkpoint.
    let leftover = output.path().join("checkpoint-11.tmp-123");
    fs::create_dir(&leftover).unwrap();
    Manifest::of_folder(&leftover, 11, None).unwrap().write(&leftover).unwrap();
    assert_eq!(selected(&checkpoints), (Some(10), vec![]));
    fs::create_dir(output.path().join("checkpoint-final")).unwrap();
    assert_eq!(checkpoints.clean_leftovers().unwrap(), [leftover]);
    assert_eq!(fs::read_dir(output.path()).unwrap().count(), 4);
}

#[test]
fn writing_a_step_again_replaces_it() {
    let (output, checkpoints) = three();
    checkpoints
        .write::<RunError>(10, None, |folder| {
            fs::write(folder.join("new"), b"new").unwrap();
            Ok(())
        })
        .unwrap();
    assert_eq!(selected(&checkpoints), (Some(10), vec![]));
    assert!(output.path().join("checkpoint-10/new").exists());
    assert_eq!(fs::read_dir(output.path()).unwrap().count(), 3);
}

#[test]
fn a_crash_between_the_two_renames_loses_nothing() {
    let (output, checkpoints) = three();
    fs::rename(output.path().join("checkpoint-10"), output.path().join("checkpoint-10.tmp-replaced")).unwrap();
    assert_eq!(selected(&checkpoints).0, Some(9));
    checkpoints.clean_leftovers().unwrap();
    assert_eq!(selected(&checkpoints), (Some(10), vec![]));
}

#[test]
fn an_output_that_does_not_exist_has_no_checkpoints() {
    let checkpoints = Checkpoints::new(Path::new("does/not/exist"));
    assert!(checkpoints.list().unwrap().is_empty());
    assert_eq!(selected(&checkpoints), (None, vec![]));
}
