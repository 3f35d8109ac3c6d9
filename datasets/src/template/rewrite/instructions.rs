//! Rewriting of a compiled template: [`rewritten`] replaces some instructions by calls of functions and puts calls
//! before others, so that operators, loops and attributes are Python's and no value contains itself.

use minijinja::machinery::{Instruction, Instructions};

use super::guards::{LOOP, STORE};
use super::{attributes, operators};

/// The instructions with the calls. Jumps lead to where their targets have moved.
pub(super) fn rewritten<'source>(old: &Instructions<'source>) -> Instructions<'source> {
    let olds: Vec<&Instruction<'source>> = (0..).map_while(|index| old.get(index)).collect();
    let mut moved = Vec::with_capacity(olds.len() + 1);
    let mut next = 0;
    for instruction in &olds {
        moved.push(next);
        next += before(instruction).len() as u32 + 1;
    }
    moved.push(next);
    let to = |aim: u32| moved.get(aim as usize).copied().unwrap_or(aim);
    let mut new = Instructions::new(old.name(), old.source());
    for (index, instruction) in olds.iter().enumerate() {
        let instruction = match instruction {
            Instruction::Jump(aim) => Instruction::Jump(to(*aim)),
            Instruction::JumpIfFalse(aim) => Instruction::JumpIfFalse(to(*aim)),
            Instruction::JumpIfFalseOrPop(aim) => Instruction::JumpIfFalseOrPop(to(*aim)),
            Instruction::JumpIfTrueOrPop(aim) => Instruction::JumpIfTrueOrPop(to(*aim)),
            Instruction::Iterate(aim) => Instruction::Iterate(to(*aim)),
            Instruction::BuildMacro(name, aim, flags) => Instruction::BuildMacro(name, to(*aim), *flags),
            Instruction::GetAttr(name) => match attributes::function(name) {
                Some(function) => Instruction::CallFunction(function, Some(1)),
                None => Instruction::GetAttr(name),
            },
            other => match operators::function(other) {
                Some((function, arguments)) => Instruction::CallFunction(function, Some(arguments)),
                None => (*other).clone(),
            },
        };
        let span = old.get_span(index as u32);
        let line = old.get_line(index as u32);
        for instruction in before(olds[index]).iter().cloned().chain(Some(instruction)) {
            match (span, line) {
                (Some(span), _) => new.add_with_span(instruction, span),
                (None, Some(line)) => new.add_with_line(instruction, line.try_into().unwrap_or(u16::MAX)),
                (None, None) => new.add(instruction),
            };
        }
    }
    new
}

/// The instructions that come before an instruction. They leave the stack as it is.
fn before<'source>(instruction: &Instruction<'source>) -> &'static [Instruction<'static>] {
    const OF_LOOP: &[Instruction<'static>] = &[Instruction::CallFunction(LOOP, Some(1))];
    // The value is below the namespace.
    const OF_STORE: &[Instruction<'static>] =
        &[Instruction::Swap, Instruction::CallFunction(STORE, Some(1)), Instruction::Swap];
    match instruction {
        Instruction::PushLoop(_) => OF_LOOP,
        Instruction::SetAttr(_) => OF_STORE,
        _ => &[],
    }
}
