//! Today's date, for templates that print it.

/// `YYYY-MM-DD`, in local time, as templates of served models print it.
pub fn today() -> String {
    chrono::Local::now().format("%Y-%m-%d").to_string()
}
