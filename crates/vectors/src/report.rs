//! What a check found.

use core::fmt;

use serde::Serialize;

/// The outcome for a whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One for each group, in the order of the file's names.
    pub groups: Vec<GroupReport>,
}

/// The outcome for one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupReport {
    /// Name of the group.
    pub group: String,
    /// How many cases the group has.
    pub cases: usize,
    /// How many values were recomputed and compared.
    pub values_checked: usize,
    /// Values that are not what they should be.
    pub differences: Vec<Difference>,
    /// Values that nothing here knows how to check.
    pub not_checked: Vec<NotChecked>,
}

/// One value that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Name of the group.
    pub group: String,
    /// Which case of the group, from 0.
    pub case: usize,
    /// Name of the case, where cases have names.
    pub name: Option<String>,
    /// Which value.
    pub field: String,
    /// What the file says.
    pub expected: String,
    /// What was computed, or why nothing could be.
    pub computed: String,
}

/// One value, or one group, that was not checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotChecked {
    /// Which case of the group, from 0; `None`: the whole group.
    pub case: Option<usize>,
    /// Which value; empty: all of the case or group.
    pub field: String,
    /// Why.
    pub reason: String,
}

impl Report {
    /// Whether everything in the file was checked and nothing differs.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.groups.iter().all(GroupReport::is_clean)
    }

    /// How many values were recomputed and compared in all groups.
    #[must_use]
    pub fn values_checked(&self) -> usize {
        self.groups.iter().fold(0, |sum, group| sum.saturating_add(group.values_checked))
    }

    /// All differences of all groups.
    pub fn differences(&self) -> impl Iterator<Item = &Difference> {
        self.groups.iter().flat_map(|group| &group.differences)
    }
}

impl GroupReport {
    /// A group of which nothing is known yet.
    #[must_use]
    pub fn new(group: &str) -> Self {
        Self {
            group: group.to_owned(),
            cases: 0,
            values_checked: 0,
            differences: Vec::new(),
            not_checked: Vec::new(),
        }
    }

    /// Whether everything in the group was checked, and something was, and nothing differs.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.values_checked > 0 && self.differences.is_empty() && self.not_checked.is_empty()
    }

    /// Counts one compared value, and notes it if it differs. `case` counts from 0.
    pub fn compare(
        &mut self,
        case: usize,
        name: Option<&str>,
        field: &str,
        expected: &str,
        computed: &str,
    ) {
        self.values_checked = self.values_checked.saturating_add(1);
        if expected != computed {
            self.differ(case, name, field, expected, computed);
        }
    }

    /// Notes a value that differs, or of which nothing can be computed.
    pub fn differ(
        &mut self,
        case: usize,
        name: Option<&str>,
        field: &str,
        expected: &str,
        computed: &str,
    ) {
        self.differences.push(Difference {
            group: self.group.clone(),
            case,
            name: name.map(str::to_owned),
            field: field.to_owned(),
            expected: expected.to_owned(),
            computed: computed.to_owned(),
        });
    }

    /// Notes something that nothing here knows how to check.
    pub fn not_checked(&mut self, case: Option<usize>, field: &str, reason: &str) {
        self.not_checked.push(NotChecked {
            case,
            field: field.to_owned(),
            reason: reason.to_owned(),
        });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.groups.iter().try_for_each(|group| write!(f, "{group}"))
    }
}

/// One line for the group, then one for everything that is wrong with it.
impl fmt::Display for GroupReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, cases, values_checked, differences, not_checked } = self;
        let verdict = match (self.is_clean(), differences.is_empty()) {
            (true, _) => "equal",
            (false, true) => "NOT CHECKED",
            (false, false) => "WRONG",
        };
        write!(f, "{group:<28} {cases:>4} cases {values_checked:>6} values checked  ")?;
        writeln!(f, "{:>4} differ  {verdict}", differences.len())?;
        differences.iter().try_for_each(|difference| writeln!(f, "  {difference}"))?;
        not_checked.iter().try_for_each(|skipped| writeln!(f, "  {skipped}"))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "case {}", self.case)?;
        if let Some(name) = &self.name {
            write!(f, " ({name})")?;
        }
        write!(f, ", {}: expected {}, computed {}", self.field, self.expected, self.computed)
    }
}

impl fmt::Display for NotChecked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(case) = self.case {
            write!(f, "case {case}, ")?;
        }
        match self.field.as_str() {
            "" => write!(f, "not checked: {}", self.reason),
            field => write!(f, "{field}: not checked: {}", self.reason),
        }
    }
}
