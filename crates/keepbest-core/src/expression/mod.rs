//! Arithmetic over metrics: `0.5*val/precision_macro + 0.5*val/recall_macro`.

mod parser;
#[cfg(test)]
mod tests;

use std::{fmt, ops, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::metrics::{Direction, Metrics};

pub use parser::ExpressionError;

/// An expression over metric values: names, constants, `+ - * /`, unary minus and parentheses.
///
/// A name is letters, digits, `_` and `.`, beginning with a letter or `_`; parts of a name are joined by `/` without
/// spaces. So `val/loss` is a name, `val/loss / train/loss` and `val/loss/2` are divisions. Any other name is written
/// between backquotes (a backquote in it doubled): `` `top-1 (%)` ``.
///
/// Evaluation is plain double precision, in the order written. An expression is shown, and serialised, as text that
/// parses to the same expression.
///
/// ```
/// use keepbest_core::{Expression, Metrics};
///
/// let expression: Expression = "2 * (val/a + val/b) / 4".parse()?;
/// let metrics = Metrics::from_iter([("val/a", 0.5), ("val/b", 1.0)]);
/// assert_eq!(expression.evaluate(&metrics), Ok(0.75));
/// # Ok::<(), keepbest_core::ExpressionError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    /// In postfix order: flat, so that no input, however nested, can exhaust the stack.
    operations: Vec<Operation>,
}

#[derive(Debug, Clone, PartialEq)]
enum Operation {
    Metric(String),
    /// Finite and not negative: a negative constant is `Negate` of one.
    Constant(f64),
    Negate,
    Binary(Binary),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
}

impl Binary {
    fn symbol(self) -> char {
        match self {
            Self::Add => '+',
            Self::Subtract => '-',
            Self::Multiply => '*',
            Self::Divide => '/',
        }
    }

    /// The precedence: 1 for sums, 2 for products. Unary minus and operands bind tighter.
    fn precedence(self) -> u8 {
        match self {
            Self::Add | Self::Subtract => 1,
            Self::Multiply | Self::Divide => 2,
        }
    }

    fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Subtract => a - b,
            Self::Multiply => a * b,
            Self::Divide => a / b,
        }
    }
}

/// An expression names a metric that was not measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("metric `{name}` was not measured; there are: {}", list(.existing))]
#[non_exhaustive]
pub struct MissingMetric {
    /// The name that is missing.
    pub name: String,
    /// The names that exist.
    pub existing: Vec<String>,
    /// The existing name that is nearest to the missing one, if one is near.
    pub nearest: Option<String>,
}

impl MissingMetric {
    fn new(name: &str, metrics: &Metrics) -> Self {
        Self {
            name: name.to_owned(),
            existing: metrics.names().map(str::to_owned).collect(),
            nearest: metrics.nearest_name(name).map(str::to_owned),
        }
    }

    /// A thing to try, where a name is near.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        self.nearest
            .as_ref()
            .map(|nearest| format!("did you mean {nearest}?"))
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// What an expression does when every metric in it gets better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trend {
    /// It has no metric in it, or each is multiplied by zero.
    Constant,
    /// It goes one way.
    Better(Direction),
    /// It may go either way, or a metric of unknown direction is in it.
    Unknown,
}

impl Trend {
    fn negated(self) -> Self {
        match self {
            Self::Better(direction) => Self::Better(direction.reversed()),
            other => other,
        }
    }

    fn added(self, other: Self) -> Self {
        match (self, other) {
            (Self::Constant, trend) | (trend, Self::Constant) => trend,
            (a, b) if a == b => a,
            _ => Self::Unknown,
        }
    }

    fn scaled(self, factor: f64) -> Self {
        if factor == 0.0 {
            Self::Constant
        } else if factor < 0.0 {
            self.negated()
        } else {
            self
        }
    }
}

impl Expression {
    /// A metric alone.
    #[must_use]
    pub fn metric(name: impl Into<String>) -> Self {
        Self {
            operations: vec![Operation::Metric(name.into())],
        }
    }

    /// A constant.
    ///
    /// # Errors
    /// [`ExpressionError::NumberOutOfRange`] when the value is not finite.
    pub fn constant(value: f64) -> Result<Self, ExpressionError> {
        if !value.is_finite() {
            return Err(ExpressionError::NumberOutOfRange {
                text: value.to_string(),
                position: 0,
            });
        }
        let mut operations = vec![Operation::Constant(value.abs())];
        if value.is_sign_negative() {
            operations.push(Operation::Negate);
        }
        Ok(Self { operations })
    }

    /// The names of the metrics in it, in the order they first appear.
    #[must_use]
    pub fn metric_names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for operation in &self.operations {
            if let Operation::Metric(name) = operation
                && !names.contains(&name.as_str())
            {
                names.push(name.as_str());
            }
        }
        names
    }

    /// The name, when the expression is one metric and nothing else.
    #[must_use]
    pub fn as_metric(&self) -> Option<&str> {
        match self.operations.as_slice() {
            [Operation::Metric(name)] => Some(name),
            _ => None,
        }
    }

    /// The value for these metrics. NaN and infinities arise and pass as IEEE 754 has them.
    ///
    /// # Errors
    /// [`MissingMetric`] when a metric in it is not among `metrics`.
    pub fn evaluate(&self, metrics: &Metrics) -> Result<f64, MissingMetric> {
        let mut stack: Vec<f64> = Vec::new();
        for operation in &self.operations {
            let value = match operation {
                Operation::Metric(name) => metrics
                    .get(name)
                    .ok_or_else(|| MissingMetric::new(name, metrics))?,
                Operation::Constant(value) => *value,
                Operation::Negate => -pop(&mut stack),
                Operation::Binary(binary) => {
                    let b = pop(&mut stack);
                    let a = pop(&mut stack);
                    binary.apply(a, b)
                }
            };
            stack.push(value);
        }
        Ok(pop(&mut stack))
    }

    /// The direction in which the expression is better, where it follows from the directions of its metrics: sums of
    /// parts that agree, differences of parts that do not, products and quotients with a constant, by its sign.
    /// `None` where it does not follow, or a metric is unknown.
    ///
    /// ```
    /// use keepbest_core::{Direction, Expression};
    ///
    /// let direction = |text: &str| text.parse::<Expression>().unwrap().direction();
    /// assert_eq!(direction("0.5*val/accuracy + 0.5*val/f1_macro"), Some(Direction::Maximise));
    /// assert_eq!(direction("val/accuracy - 0.1*val/loss"), Some(Direction::Maximise));
    /// assert_eq!(direction("-val/accuracy"), Some(Direction::Minimise));
    /// assert_eq!(direction("val/accuracy + val/loss"), None);
    /// ```
    #[must_use]
    pub fn direction(&self) -> Option<Direction> {
        // Beside each trend, the value of what is constant.
        let mut stack: Vec<(Trend, f64)> = Vec::new();
        for operation in &self.operations {
            let entry = match operation {
                Operation::Metric(name) => (
                    Direction::of_metric(name).map_or(Trend::Unknown, Trend::Better),
                    f64::NAN,
                ),
                Operation::Constant(value) => (Trend::Constant, *value),
                Operation::Negate => {
                    let (trend, value) = stack.pop().unwrap_or((Trend::Unknown, f64::NAN));
                    (trend.negated(), -value)
                }
                Operation::Binary(binary) => {
                    let (b, y) = stack.pop().unwrap_or((Trend::Unknown, f64::NAN));
                    let (a, x) = stack.pop().unwrap_or((Trend::Unknown, f64::NAN));
                    let trend = match binary {
                        Binary::Add => a.added(b),
                        Binary::Subtract => a.added(b.negated()),
                        Binary::Multiply if a == Trend::Constant => b.scaled(x),
                        Binary::Multiply | Binary::Divide if b == Trend::Constant => a.scaled(y),
                        Binary::Multiply | Binary::Divide => Trend::Unknown,
                    };
                    (trend, binary.apply(x, y))
                }
            };
            stack.push(entry);
        }
        match stack.pop() {
            Some((Trend::Better(direction), _)) => Some(direction),
            _ => None,
        }
    }

    fn combined(mut self, other: Self, binary: Binary) -> Self {
        self.operations.extend(other.operations);
        self.operations.push(Operation::Binary(binary));
        self
    }
}

/// Every expression is made by the parser or the operators below, which keep the postfix form whole: there is always
/// an operand to take.
fn pop(stack: &mut Vec<f64>) -> f64 {
    debug_assert!(!stack.is_empty(), "postfix form is whole");
    stack.pop().unwrap_or(f64::NAN)
}

impl ops::Add for Expression {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.combined(other, Binary::Add)
    }
}

impl ops::Sub for Expression {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.combined(other, Binary::Subtract)
    }
}

impl ops::Mul for Expression {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        self.combined(other, Binary::Multiply)
    }
}

impl ops::Div for Expression {
    type Output = Self;

    fn div(self, other: Self) -> Self {
        self.combined(other, Binary::Divide)
    }
}

impl ops::Neg for Expression {
    type Output = Self;

    fn neg(mut self) -> Self {
        self.operations.push(Operation::Negate);
        self
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Operands and unary minus.
        const TIGHT: u8 = 3;
        let parenthesised =
            |text: String, needed: bool| if needed { format!("({text})") } else { text };

        let mut stack: Vec<(String, u8)> = Vec::new();
        for operation in &self.operations {
            let entry = match operation {
                Operation::Metric(name) => (parser::quoted(name), TIGHT),
                Operation::Constant(value) => (parser::number(*value), TIGHT),
                Operation::Negate => {
                    let (text, precedence) = stack.pop().unwrap_or_default();
                    (
                        format!("-{}", parenthesised(text, precedence < TIGHT)),
                        TIGHT,
                    )
                }
                Operation::Binary(binary) => {
                    let (right, right_precedence) = stack.pop().unwrap_or_default();
                    let (left, left_precedence) = stack.pop().unwrap_or_default();
                    let precedence = binary.precedence();
                    // Operators associate to the left, and rounding makes a + (b + c) another expression.
                    let mut text = parenthesised(left, left_precedence < precedence);
                    text.push(' ');
                    text.push(binary.symbol());
                    text.push(' ');
                    text.push_str(&parenthesised(right, right_precedence <= precedence));
                    (text, precedence)
                }
            };
            stack.push(entry);
        }
        f.write_str(&stack.pop().unwrap_or_default().0)
    }
}

impl FromStr for Expression {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Self, ExpressionError> {
        parser::parse(text).map(|operations| Self { operations })
    }
}

impl Serialize for Expression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Expression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}
