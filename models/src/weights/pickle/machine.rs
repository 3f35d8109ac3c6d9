//! A stack machine for pickles: [`run`] executes only the instructions that a state dict needs.
//!
//! The instructions are those of Python's `pickletools`, protocols 1 to 5. The machine builds tuples, lists,
//! dictionaries and numbers; the only functions it "calls" are those of [`Global`], as described in `calls.rs`. Any
//! other global ends the reading with an error that names it, before it can have an effect. Not here: protocol 0, which
//! torch cannot read either, objects of classes, extension codes, buffers outside the stream.

use super::values::{Global, Heap, Problem, Value};
use crate::wording::clip;

mod opcode {
    pub const PROTO: u8 = 0x80;
    pub const FRAME: u8 = 0x95;
    pub const STOP: u8 = b'.';
    pub const MARK: u8 = b'(';
    pub const NONE: u8 = b'N';
    pub const NEWTRUE: u8 = 0x88;
    pub const NEWFALSE: u8 = 0x89;
    pub const BININT: u8 = b'J';
    pub const BININT1: u8 = b'K';
    pub const BININT2: u8 = b'M';
    pub const LONG1: u8 = 0x8a;
    pub const INT: u8 = b'I';
    pub const LONG: u8 = b'L';
    pub const BINFLOAT: u8 = b'G';
    pub const BINUNICODE: u8 = b'X';
    pub const SHORT_BINUNICODE: u8 = 0x8c;
    pub const BINUNICODE8: u8 = 0x8d;
    pub const BINSTRING: u8 = b'T';
    pub const SHORT_BINSTRING: u8 = b'U';
    pub const EMPTY_TUPLE: u8 = b')';
    pub const TUPLE: u8 = b't';
    pub const TUPLE1: u8 = 0x85;
    pub const TUPLE2: u8 = 0x86;
    pub const TUPLE3: u8 = 0x87;
    pub const EMPTY_LIST: u8 = b']';
    pub const APPEND: u8 = b'a';
    pub const APPENDS: u8 = b'e';
    pub const EMPTY_DICT: u8 = b'}';
    pub const SETITEM: u8 = b's';
    pub const SETITEMS: u8 = b'u';
    pub const BINPUT: u8 = b'q';
    pub const LONG_BINPUT: u8 = b'r';
    pub const MEMOIZE: u8 = 0x94;
    pub const BINGET: u8 = b'h';
    pub const LONG_BINGET: u8 = b'j';
    pub const GLOBAL: u8 = b'c';
    pub const STACK_GLOBAL: u8 = 0x93;
    pub const INST: u8 = b'i';
    pub const REDUCE: u8 = b'R';
    pub const BUILD: u8 = b'b';
    pub const BINPERSID: u8 = b'Q';
}
use opcode::*;

/// The first number of torch's older format: little-endian as in a pickle, and as text.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const MAGIC_TEXT: &str = "119547037146038801333356";
const NEWEST_PROTOCOL: u8 = 5;

struct Machine<'a, 'h> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack at its marks.
    marks: Vec<usize>,
    memo: Vec<Value<'a>>,
    heap: &'h mut Heap<'a>,
}

/// Runs the pickle at the beginning of `bytes`; returns its value and its length.
pub(super) fn run<'a>(bytes: &'a [u8], heap: &mut Heap<'a>) -> Result<(Value<'a>, usize), Problem> {
    let mut machine = Machine { bytes, at: 0, stack: Vec::new(), marks: Vec::new(), memo: Vec::new(), heap };
    loop {
        let [opcode] = machine.array()?;
        if opcode == STOP {
            let value = machine.pop()?;
            return Ok((value, machine.at));
        }
        machine.step(opcode)?;
    }
}

impl<'a> Machine<'a, '_> {
    fn step(&mut self, opcode: u8) -> Result<(), Problem> {
        match opcode {
            PROTO => match self.array()? {
                [protocol] if protocol <= NEWEST_PROTOCOL => Ok(()),
                [protocol] => Err(malformed(format!("protocol {protocol}"))),
            },
            FRAME => self.array::<8>().map(drop),
            MARK => {
                self.heap.grow(&mut self.marks)?;
                self.marks.push(self.stack.len());
                Ok(())
            }
            NONE => self.push(Value::None),
            NEWTRUE => self.push(Value::Bool(true)),
            NEWFALSE => self.push(Value::Bool(false)),
            BININT | BININT1 | BININT2 | LONG1 | INT | LONG => {
                let number = self.number(opcode)?;
                self.push(number)
            }
            BINFLOAT => {
                self.array::<8>()?;
                self.push(Value::Float)
            }
            BINUNICODE | SHORT_BINUNICODE | BINUNICODE8 | BINSTRING | SHORT_BINSTRING => {
                let text = self.text(opcode)?;
                self.push(Value::Text(text))
            }
            EMPTY_TUPLE | TUPLE | TUPLE1 | TUPLE2 | TUPLE3 => {
                let from = match opcode {
                    TUPLE => self.unmark()?,
                    EMPTY_TUPLE => self.below(0)?,
                    TUPLE1 => self.below(1)?,
                    TUPLE2 => self.below(2)?,
                    _ => self.below(3)?,
                };
                let tuple = self.heap.sequence(&self.stack[from..])?;
                self.stack.truncate(from);
                self.push(Value::Tuple(tuple))
            }
            EMPTY_LIST => {
                let list = self.heap.sequence(&[])?;
                self.push(Value::List(list))
            }
            EMPTY_DICT => {
                let dict = self.heap.sequence(&[])?;
                self.push(Value::Dict(dict))
            }
            APPEND | APPENDS | SETITEM | SETITEMS => self.fill(opcode),
            BINPUT | LONG_BINPUT | MEMOIZE => self.put(opcode),
            BINGET | LONG_BINGET => {
                let index = self.index(opcode == LONG_BINGET)?;
                let value = self.memo.get(index).copied();
                self.push(value.ok_or_else(|| malformed(format!("a reference to value {index}, which is not there")))?)
            }
            GLOBAL | STACK_GLOBAL | INST => self.global(opcode),
            REDUCE => match (self.pop()?, self.pop()?) {
                (Value::Tuple(arguments), Value::Global(global)) => {
                    let value = self.heap.call(global, arguments)?;
                    self.push(value)
                }
                (_, called) => Err(malformed(format!("a call of {}", called.describe()))),
            },
            // An ordered dictionary has attributes, `_metadata`, which hold versions of modules and are not needed.
            BUILD => match (self.pop()?, self.top()?) {
                (Value::Dict(_), Value::Dict(_)) => Ok(()),
                (_, changed) => Err(malformed(format!("attributes for {}", changed.describe()))),
            },
            BINPERSID => {
                let identity = self.pop()?;
                let storage = self.heap.persistent(identity)?;
                self.push(storage)
            }
            _ => Err(malformed(format!("the instruction 0x{opcode:02x} at byte {}", self.at - 1))),
        }
    }

    fn number(&mut self, opcode: u8) -> Result<Value<'a>, Problem> {
        Ok(match opcode {
            BININT => Value::Integer(i32::from_le_bytes(self.array()?).into()),
            BININT1 => Value::Integer(u8::from_le_bytes(self.array()?).into()),
            BININT2 => Value::Integer(u16::from_le_bytes(self.array()?).into()),
            LONG1 => {
                let [length] = self.array()?;
                let digits = self.take(length.into())?;
                if digits == MAGIC {
                    return Ok(Value::Magic);
                }
                let mut number = [if digits.last().is_some_and(|last| *last >= 0x80) { 0xff } else { 0 }; 8];
                let slots = number.get_mut(..digits.len());
                slots.ok_or_else(|| malformed("an integer beyond 64 bits"))?.copy_from_slice(digits);
                Value::Integer(i64::from_le_bytes(number))
            }
            _ => {
                let line = self.line()?;
                match line.strip_suffix('L').unwrap_or(line) {
                    // Protocol 1 writes booleans like this.
                    "00" if opcode == INT => Value::Bool(false),
                    "01" if opcode == INT => Value::Bool(true),
                    MAGIC_TEXT => Value::Magic,
                    digits => {
                        let number = digits.parse().map_err(|_| malformed(format!("the integer `{}`", clip(line))));
                        Value::Integer(number?)
                    }
                }
            }
        })
    }

    fn text(&mut self, opcode: u8) -> Result<&'a str, Problem> {
        let length = match opcode {
            SHORT_BINUNICODE | SHORT_BINSTRING => u8::from_le_bytes(self.array()?).into(),
            BINUNICODE | BINSTRING => u32::from_le_bytes(self.array()?).into(),
            _ => u64::from_le_bytes(self.array()?),
        };
        let bytes = self.take(length)?;
        str::from_utf8(bytes).map_err(|_| malformed("a string that is not UTF-8"))
    }

    fn fill(&mut self, opcode: u8) -> Result<(), Problem> {
        let from = match opcode {
            APPEND => self.below(1)?,
            SETITEM => self.below(2)?,
            _ => self.unmark()?,
        };
        let is_list = matches!(opcode, APPEND | APPENDS);
        let target = from.checked_sub(1).filter(|target| *target >= self.floor()).map(|target| self.stack[target]);
        let pairs = (self.stack.len() - from).is_multiple_of(2);
        match target {
            Some(Value::List(list)) if is_list => self.heap.extend(list, &self.stack[from..])?,
            Some(Value::Dict(dict)) if !is_list && pairs => self.heap.extend(dict, &self.stack[from..])?,
            other => return Err(malformed(format!("items for {}", other.map_or("nothing", Value::describe)))),
        }
        self.stack.truncate(from);
        Ok(())
    }

    fn put(&mut self, opcode: u8) -> Result<(), Problem> {
        let value = self.top()?;
        let index = if opcode == MEMOIZE { self.memo.len() } else { self.index(opcode == LONG_BINPUT)? };
        if let Some(place) = self.memo.get_mut(index) {
            *place = value;
            return Ok(());
        }
        // Writers number values consecutively; a gap would only take memory.
        if index > self.memo.len() {
            return Err(malformed(format!("the number {index} for value {}", self.memo.len())));
        }
        self.heap.grow(&mut self.memo)?;
        self.memo.push(value);
        Ok(())
    }

    fn global(&mut self, opcode: u8) -> Result<(), Problem> {
        let (module, name) = if opcode == STACK_GLOBAL {
            match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => (module, name),
                _ => return Err(malformed("a global that is not named by strings")),
            }
        } else {
            (self.line()?, self.line()?)
        };
        let global = Global::find(module, name)?;
        if opcode == INST {
            return Err(malformed(format!("an object of `{}.{}`", clip(module), clip(name))));
        }
        self.push(Value::Global(global))
    }

    /// The height of the stack below which nothing may be taken.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn below(&self, count: usize) -> Result<usize, Problem> {
        let from = self.stack.len().checked_sub(count).filter(|from| *from >= self.floor());
        from.ok_or_else(|| malformed("a stack with too few values"))
    }

    fn unmark(&mut self) -> Result<usize, Problem> {
        self.marks.pop().ok_or_else(|| malformed("a stack without a mark"))
    }

    fn top(&self) -> Result<Value<'a>, Problem> {
        Ok(self.stack[self.below(1)?])
    }

    fn pop(&mut self) -> Result<Value<'a>, Problem> {
        let value = self.top()?;
        self.stack.pop();
        Ok(value)
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), Problem> {
        self.heap.grow(&mut self.stack)?;
        self.stack.push(value);
        Ok(())
    }

    fn index(&mut self, long: bool) -> Result<usize, Problem> {
        Ok(if long { u32::from_le_bytes(self.array()?) as usize } else { u8::from_le_bytes(self.array()?).into() })
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Problem> {
        let rest = &self.bytes[self.at..];
        let taken = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let taken = taken.ok_or_else(|| malformed(format!("the end of the data after {} bytes", self.bytes.len())))?;
        self.at += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    fn line(&mut self) -> Result<&'a str, Problem> {
        // Names of modules and classes, and numbers; longer lines are none of these.
        const LONGEST: usize = 4096;
        let rest = &self.bytes[self.at..];
        let length = rest.iter().take(LONGEST).position(|byte| *byte == b'\n');
        let length = length.ok_or_else(|| malformed("a line without an end"))?;
        self.at += length + 1;
        str::from_utf8(&rest[..length]).map_err(|_| malformed("a name that is not UTF-8"))
    }
}

fn malformed(found: impl Into<String>) -> Problem {
    Problem::malformed("a pickle of tensors", found)
}
