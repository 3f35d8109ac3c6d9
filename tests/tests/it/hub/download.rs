//! Bytes on their way: what is fetched, cut, resumed, damaged, missing.

use std::fs;
use std::time::Duration;

use firebrand_hub::{HubError, locate};
use firebrand_tests::hub_server::{Fault, git_blob_id, sha256};

use super::{MODEL, World, assert_mentions, bytes, contents, message};

#[test]
fn a_fresh_download_is_laid_out_as_python_expects() {
    let world = World::new();
    let snapshot = world.locate().unwrap();
    assert_eq!(snapshot, world.root().join("snapshots").join(&world.commit));
    let files = contents(&snapshot);
    assert_eq!(files["model.safetensors"], world.weights);
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "chat_template.jinja",
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json"
        ]
    );
    let linked = |name: &str| fs::canonicalize(snapshot.join(name)).unwrap();
    assert_eq!(linked("model.safetensors"), fs::canonicalize(world.blob(&sha256(&world.weights))).unwrap());
    assert_eq!(linked("generation_config.json"), fs::canonicalize(world.blob(&git_blob_id(b"{}"))).unwrap());
    assert_eq!(fs::read_to_string(world.root().join("refs/main")).unwrap(), world.commit);
    assert!(world.root().join("trees").join(format!("{}.json", world.commit)).is_file());
}

#[test]
fn named_chat_templates_come_along() {
    let world = World::new();
    let mut files = super::files(&world.weights);
    files.push(("additional_chat_templates/tool_use.jinja", b"{{ tools }}"));
    world.server.publish(MODEL, &["main"], &files);
    let name = "additional_chat_templates/tool_use.jinja";
    let snapshot = world.locate().unwrap();
    assert_eq!(fs::read(snapshot.join(name)).unwrap(), b"{{ tools }}");
    assert_eq!(world.offline().unwrap(), snapshot);
    fs::remove_file(snapshot.join(name)).unwrap();
    assert_mentions!(message(world.offline()), "tool_use.jinja is missing", "HF_HUB_OFFLINE");
}

#[test]
fn only_what_a_model_needs_is_requested() {
    let world = World::new();
    world.locate().unwrap();
    let requests = world.server.take_requests();
    for useless in ["README", "pytorch_model", "onnx", "original", "consolidated"] {
        assert!(requests.iter().all(|request| !request.target.contains(useless)), "{useless} was requested");
    }
}

#[test]
fn a_cut_download_goes_on_where_it_stopped() {
    let world = World::new();
    world.server.fail("model.safetensors", Fault::CutAfter(100_000), 1);
    assert_mentions!(message(world.locate()), "model.safetensors", "100000 of 300000", "again");
    let partial = world.blob(&format!("{}.incomplete", sha256(&world.weights)));
    assert_eq!(fs::read(partial).unwrap(), world.weights[..100_000]);
    assert!(!world.root().join("refs/main").exists(), "a half copy must not be the branch");
    world.server.take_requests();

    let snapshot = world.locate().unwrap();
    let requests = world.requests_for("model.safetensors");
    assert_eq!(requests.len(), 2, "the hub and the storage server");
    for request in &requests {
        assert_eq!(request.headers["range"], "bytes=100000-");
    }
    assert_eq!(contents(&snapshot)["model.safetensors"], world.weights);
}

#[test]
fn one_run_survives_several_cuts() {
    let mut world = World::new();
    world.options.retries = 3;
    world.server.fail("model.safetensors", Fault::CutAfter(90_000), 3);
    assert_eq!(contents(&world.locate().unwrap())["model.safetensors"], world.weights);
    let ranges: Vec<_> = world
        .requests_for("model.safetensors")
        .into_iter()
        .filter(|request| request.storage)
        .map(|request| request.headers.get("range").cloned().unwrap_or_default())
        .collect();
    assert_eq!(ranges, ["", "bytes=90000-", "bytes=180000-", "bytes=270000-"]);
}

#[test]
fn a_server_without_ranges_is_read_from_the_beginning() {
    let world = World::new();
    world.server.fail("model.safetensors", Fault::CutAfter(5), 1);
    message(world.locate());
    world.server.fail("model.safetensors", Fault::IgnoreRange, 1);
    assert_eq!(contents(&world.locate().unwrap())["model.safetensors"], world.weights);
}

#[test]
fn leftovers_of_other_bytes_are_replaced() {
    let digest = |world: &World| format!("{}.incomplete", sha256(&world.weights));
    for length in [1, 150_000, 300_000, 400_000] {
        let world = World::new();
        fs::create_dir_all(world.root().join("blobs")).unwrap();
        fs::write(world.blob(&digest(&world)), bytes(2, length)).unwrap();
        assert_eq!(contents(&world.locate().unwrap())["model.safetensors"], world.weights, "{length}");
        assert!(!world.blob(&digest(&world)).exists());
    }
}

#[test]
fn a_whole_partial_file_needs_no_request() {
    let world = World::new();
    fs::create_dir_all(world.root().join("blobs")).unwrap();
    fs::write(world.blob(&format!("{}.incomplete", sha256(&world.weights))), &world.weights).unwrap();
    assert_eq!(contents(&world.locate().unwrap())["model.safetensors"], world.weights);
    assert!(world.requests_for("model.safetensors").is_empty());
}

#[test]
fn damaged_weights_are_an_error_and_leave_nothing() {
    let world = World::new();
    world.server.fail("model.safetensors", Fault::Flip(299_999), 1);
    let expected = sha256(&world.weights);
    let mut damaged = world.weights.clone();
    damaged[299_999] ^= 1;
    assert_mentions!(message(world.locate()), "model.safetensors", "sha256", &expected, &sha256(&damaged));
    assert!(!world.blob(&expected).exists());
    assert!(!world.blob(&format!("{expected}.incomplete")).exists());
    assert!(!world.root().join("snapshots").join(&world.commit).join("model.safetensors").exists());
    assert!(matches!(world.offline(), Err(HubError::NotCached { .. })));
    assert_eq!(contents(&world.locate().unwrap())["model.safetensors"], world.weights, "and the next run is good");
}

#[test]
fn a_damaged_small_file_is_found_by_its_git_hash() {
    let world = World::new();
    world.server.fail("config.json", Fault::Flip(3), 1);
    assert_mentions!(message(world.locate()), "config.json", "git blob id");
    assert!(world.requests_for("model.safetensors").is_empty(), "the weights come last");
}

#[test]
fn a_file_of_another_size_is_an_error_and_leaves_nothing() {
    let world = World::new();
    world.server.fail("model.safetensors", Fault::Short(1), 1);
    assert_mentions!(message(world.locate()), "model.safetensors", "300000", "299999");
    assert!(!world.blob(&format!("{}.incomplete", sha256(&world.weights))).exists());
}

#[test]
fn a_file_the_hub_lists_but_lacks_is_named() {
    let world = World::new();
    world.server.fail("model.safetensors", Fault::Status(404), 1);
    assert_mentions!(message(world.locate()), MODEL, "model.safetensors", "404");
}

#[test]
fn shards_come_from_the_index_and_a_missing_one_is_named() {
    let world = World::new();
    let index =
        br#"{"metadata": {"total_size": 8}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    let config: (&str, &[u8]) = ("config.json", b"{}");
    let mut files = vec![
        config,
        ("model.safetensors.index.json", index.as_slice()),
        ("model-1.safetensors", b"one"),
        ("consolidated.safetensors", b"both, again"),
    ];
    world.server.publish("acme/sharded", &["half"], &files);
    assert_mentions!(
        message(locate("acme/sharded@half", &world.options)),
        "model-2.safetensors",
        "model.safetensors.index.json"
    );
    files.push(("model-2.safetensors", b"two"));
    world.server.publish("acme/sharded", &["main"], &files);
    let folder = contents(&locate("acme/sharded", &world.options).unwrap());
    assert_eq!(folder["model-2.safetensors"], b"two");
    assert!(!folder.contains_key("consolidated.safetensors"));
}

#[test]
fn no_name_from_the_hub_leads_out_of_the_cache() {
    let world = World::new();
    let digest = sha256(b"evil");
    for path in ["../../evil.safetensors", "/tmp/evil.safetensors", "..\\evil.safetensors", "C:evil.safetensors"] {
        let lfs = serde_json::json!({"oid": digest, "size": 4, "pointerSize": 1});
        world.server.list_also(serde_json::json!({"type": "file", "path": path, "size": 4, "oid": "", "lfs": lfs}));
    }
    world.locate().unwrap();
    assert!(world.server.take_requests().iter().all(|request| !request.target.contains("evil")));

    let index = br#"{"weight_map": {"a": "../../../evil.safetensors"}}"#;
    world.server.publish("acme/evil", &["main"], &[("config.json", b"{}"), ("model.safetensors.index.json", index)]);
    assert_mentions!(message(locate("acme/evil", &world.options)), "evil.safetensors", "plain");
}

#[test]
fn a_repository_without_weights_says_what_it_has() {
    let world = World::new();
    world.server.publish("acme/other", &["main"], &[("config.json", b"{}"), ("tf_model.h5", b"x")]);
    assert_mentions!(message(locate("acme/other", &world.options)), "tf_model.h5", ".safetensors", "pytorch_model.bin");
}

#[test]
fn pickled_weights_come_where_there_are_no_others() {
    let world = World::new();
    let index = br#"{"weight_map": {"a": "pytorch_model-1.bin", "b": "pytorch_model-2.bin"}}"#;
    let files: [(&str, &[u8]); 5] = [
        ("config.json", b"{}"),
        ("pytorch_model.bin.index.json", index),
        ("pytorch_model-1.bin", b"one"),
        ("pytorch_model-2.bin", b"two"),
        ("training_args.bin", b"more than tensors"),
    ];
    world.server.publish("acme/pickled", &["main"], &files);
    let folder = contents(&locate("acme/pickled", &world.options).unwrap());
    assert_eq!(folder.keys().collect::<Vec<_>>(), [files[0].0, files[2].0, files[3].0, files[1].0]);
}

#[test]
fn an_adapter_is_a_model_too() {
    let world = World::new();
    world.server.publish(
        "acme/lora",
        &["main"],
        &[("adapter_config.json", b"{}"), ("adapter_model.safetensors", b"w")],
    );
    let folder = locate("acme/lora", &world.options).unwrap();
    assert_eq!(contents(&folder).into_keys().collect::<Vec<_>>(), ["adapter_config.json", "adapter_model.safetensors"]);
}

#[test]
fn a_slow_hub_is_waited_for_and_a_silent_one_is_not() {
    let mut world = World::new();
    world.options.timeout = Duration::from_millis(400);
    world.server.fail("model.safetensors", Fault::Slow(Duration::from_secs(5)), 1);
    assert!(matches!(world.locate(), Err(HubError::Cut { received: 0, .. })));
    // Longer in all than the patience for one piece.
    world.server.fail("model.safetensors", Fault::Slow(Duration::from_millis(40)), 1);
    assert_eq!(contents(&world.locate().unwrap())["model.safetensors"], world.weights);
}

#[test]
fn two_programs_at_once_fetch_each_file_once() {
    let world = World::new();
    world.server.fail("model.safetensors", Fault::Slow(Duration::from_millis(10)), 1);
    std::thread::scope(|scope| {
        let runs = [(); 2].map(|()| scope.spawn(|| world.locate().unwrap()));
        for run in runs {
            assert_eq!(contents(&run.join().unwrap())["model.safetensors"], world.weights);
        }
    });
    assert_eq!(world.requests_for("model.safetensors").len(), 2, "the hub and the storage server, once each");
}
