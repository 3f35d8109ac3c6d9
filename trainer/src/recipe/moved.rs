//! Keys that were somewhere else in earlier recipes. They are no longer read; the error says where they went.

/// A key that moved.
pub(super) struct Moved {
    /// Its path in earlier recipes.
    key: &'static str,
    /// What it is now, in words.
    pub now: &'static str,
    /// The lines that say the same today.
    pub example: &'static str,
}

const MOVED: [Moved; 2] = [
    Moved { key: "train.objective", now: "[objective] kind", example: "[objective]\nkind = \"sft\"" },
    Moved {
        key: "train.router_aux_loss",
        now: "router_aux_loss in [objective]",
        example: "[objective]\nkind = \"sft\"\nrouter_aux_loss = 0.02",
    },
];

/// Where the key at `path` went, if it was one.
pub(super) fn moved(path: &str) -> Option<&'static Moved> {
    MOVED.iter().find(|moved| moved.key == path)
}
