//! Today's date, for templates that print it.

/// Today in local time, `YYYY-MM-DD`, which is what the template of a served model prints.
pub fn today() -> String {
    chrono::Local::now().format("%Y-%m-%d").to_string()
}
