//! Which model, which revision, and who may see it.

use firebrand_hub::{HubOptions, Token, locate};

use super::{MODEL, World, assert_mentions, bytes, contents, files, message};

#[test]
fn a_path_that_exists_is_taken_as_it_is() {
    let world = World::new();
    let path = world.folder.path().to_str().unwrap();
    assert_eq!(locate(path, &world.options).unwrap(), world.folder.path());
    assert!(world.server.take_requests().is_empty());
}

#[test]
fn what_is_neither_path_nor_id_is_told_both_readings() {
    let world = World::new();
    for model in ["./runs/model", "runs/support-bot/model", "gpt2", "/no/such/folder", "runs/model/", ""] {
        assert_mentions!(message(locate(model, &world.options)), model, "no file or folder", "hub id", "owner/name");
    }
    assert!(world.server.take_requests().is_empty());
    // A mistyped path may look like an id: the answer must serve that reader too.
    assert_mentions!(message(locate("runs/model", &world.options)), "no folder `runs/model`", "HF_TOKEN");
}

#[test]
fn branch_tag_and_commit_each_mean_their_own_files() {
    let world = World::new();
    let (old, new) = (bytes(5, 1000), bytes(6, 1000));
    let commit = world.server.publish(MODEL, &["v1.0", "refs/pr/1"], &files(&old));
    world.server.publish(MODEL, &["dev"], &files(&new));
    let weights = |revision: &str| {
        let folder = locate(&format!("{MODEL}@{revision}"), &world.options).unwrap();
        contents(&folder).remove("model.safetensors").unwrap()
    };
    assert_eq!(weights("v1.0"), old);
    assert_eq!(weights("refs/pr/1"), old);
    assert_eq!(weights(&commit), old);
    assert_eq!(weights("dev"), new);
    assert_eq!(weights("main"), world.weights);
    assert_mentions!(message(locate("acme/tiny@v9", &world.options)), "v9", "revision", MODEL);
    let offline = HubOptions { offline: true, ..world.options.clone() };
    assert!(locate("acme/tiny@refs/pr/1", &offline).is_ok());
    assert_mentions!(message(locate("acme/tiny@v9", &offline)), "acme/tiny@v9");
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let mut world = World::new();
    world.server.guard(MODEL, "hf_secret", false);
    world.options.token = Some(Token::new("hf_secret"));
    world.locate().unwrap();
    let requests = world.server.take_requests();
    assert!(requests.iter().any(|request| request.storage));
    for request in requests {
        let token = request.headers.get("authorization").map(String::as_str);
        assert_eq!(token, (!request.storage).then_some("Bearer hf_secret"), "{}", request.target);
    }
}

#[test]
fn without_a_token_none_is_sent() {
    let world = World::new();
    world.locate().unwrap();
    assert!(world.server.take_requests().iter().all(|request| !request.headers.contains_key("authorization")));
}

#[test]
fn a_gated_model_says_where_to_accept_its_terms() {
    let mut world = World::new();
    world.server.guard(MODEL, "hf_member", true);
    let page = format!("{}/{MODEL}", world.options.endpoint);
    assert_mentions!(message(world.locate()), "gated", &page, "no HF_TOKEN is set");
    world.options.token = Some(Token::new("hf_stranger"));
    assert_mentions!(message(world.locate()), "gated", &page, "your token");
    world.options.token = Some(Token::new("hf_member"));
    assert!(world.locate().is_ok());
}

#[test]
fn a_private_model_and_a_refused_token_say_what_to_set() {
    let mut world = World::new();
    world.server.guard(MODEL, "hf_owner", false);
    assert_mentions!(message(world.locate()), MODEL, "HF_TOKEN");
    world.options.token = Some(Token::new("hf_stranger"));
    assert_mentions!(message(world.locate()), MODEL, "404", "your token");
    world.options.token = Some(Token::new("expired"));
    assert_mentions!(message(world.locate()), MODEL, "401", "refused", "HF_TOKEN");
    world.options.token = Some(Token::new("hf_\nX-Other: 1"));
    assert_mentions!(message(world.locate()), "characters");
    world.options.token = Some(Token::new("hf_owner"));
    assert!(world.locate().is_ok());
}
