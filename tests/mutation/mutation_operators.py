"""Changes of one line: cosmic-ray's operators, and four of our own for what edges of numerical code are made of.

Of cosmic-ray's operators those are taken whose change can be mistaken for the code it replaces. An addition that
becomes a shift of bits raises a TypeError on the first float that meets it: such changes are noticed by any test and
would only make the figure look better.
"""

# ruff: noqa: SIM905
from collections.abc import Iterator

import parso
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider

CORE = """ReplaceBinaryOperator_Add_Sub ReplaceBinaryOperator_Sub_Add ReplaceBinaryOperator_Mul_Div
    ReplaceBinaryOperator_Div_Mul ReplaceBinaryOperator_FloorDiv_Mul ReplaceBinaryOperator_Mod_FloorDiv
    ReplaceBinaryOperator_Pow_Mul ReplaceBinaryOperator_LShift_RShift ReplaceBinaryOperator_RShift_LShift
    ReplaceBinaryOperator_BitOr_BitAnd ReplaceBinaryOperator_BitAnd_BitOr
    ReplaceComparisonOperator_Lt_LtE ReplaceComparisonOperator_LtE_Lt ReplaceComparisonOperator_Gt_GtE
    ReplaceComparisonOperator_GtE_Gt ReplaceComparisonOperator_Eq_NotEq ReplaceComparisonOperator_NotEq_Eq
    ReplaceComparisonOperator_Is_IsNot ReplaceComparisonOperator_IsNot_Is
    ReplaceUnaryOperator_Delete_USub ReplaceUnaryOperator_Delete_Invert ReplaceUnaryOperator_Delete_Not
    ReplaceTrueWithFalse ReplaceFalseWithTrue ReplaceAndWithOr ReplaceOrWithAnd AddNot
    ReplaceBreakWithContinue ReplaceContinueWithBreak ExceptionReplacer NumberReplacer ZeroIterationForLoop""".split()

# Functions of one value that give back its shape: without them a program runs on, with other numbers.
SHAPE_KEEPING = set(
    """abs absolute clip maximum minimum sorted sort flip roll round rint floor ceil sqrt square log log1p exp
    nan_to_num where stop_gradient max min unique cumsum transpose swapaxes relu softmax log_softmax""".split()
)
MODULES = {"np", "jnp", "jax", "lax", "math", "numpy", "scipy"}

# Keywords that change how fast or how strictly something runs, and not what it gives.
WITHOUT_EFFECT = set(
    """strict stacklevel static_argnames static_argnums donate_argnums inline daemon parents exist_ok encoding
    disable transient total description cache nogil precision""".split()
)


class _Own(Operator):
    @classmethod
    def examples(cls):
        return ()


class GuardDropped(_Own):
    """`if …: raise …` never raises."""

    def mutation_positions(self, node):
        if node.type == "if_stmt" and len(node.children) == 4 and _raises(node.children[3]):
            yield node.children[1].start_pos, node.children[1].end_pos

    def mutate(self, node, index):
        node.children[1] = parso.parse(" False")
        return node


class OperandDropped(_Own):
    """`a and b` becomes `a`, or `b`; the same for `or`."""

    def mutation_positions(self, node):
        if node.type in {"and_test", "or_test"}:
            for operand in node.children[::2]:
                yield operand.start_pos, operand.end_pos

    def mutate(self, node, index):
        kept = node.children[: 2 * index - 1] + node.children[2 * index + 1 :] if index else node.children[2:]
        node.children = kept
        return node


class KeywordDropped(_Own):
    """`f(a, axis=1)` becomes `f(a)`."""

    def mutation_positions(self, node):
        for keyword in self._keywords(node):
            yield keyword.start_pos, keyword.end_pos

    def mutate(self, node, index):
        at = node.children.index(list(self._keywords(node))[index])
        # With the comma before it, or, of a first argument, the one after.
        first = at - 1 if node.type == "arglist" and at > 0 else at
        last = at + 1 if node.type == "trailer" or at > 0 else at + 2
        del node.children[first:last]
        return node

    @staticmethod
    def _keywords(node) -> Iterator:
        if node.type == "trailer" or (node.type == "arglist" and node.parent.type == "trailer"):
            for child in node.children:
                named = child.type == "argument" and child.children[1] == "="
                if named and child.children[0].value not in WITHOUT_EFFECT:
                    yield child


class CallUnwrapped(_Own):
    """`abs(x)` becomes `x`, `jnp.clip(x, 0, 1)` becomes `x`, and `x.clip(0, 1)` as well."""

    def mutation_positions(self, node):
        for at, _ in self._calls(node):
            yield node.start_pos, node.children[at].end_pos

    def mutate(self, node, index):
        at, code = list(self._calls(node))[index]
        prefix = node.get_first_leaf().prefix
        node.children[: at + 1] = [parso.parse(f"{prefix}({code.strip()})")]
        return node

    @staticmethod
    def _calls(node) -> Iterator[tuple[int, str]]:
        if node.type not in {"atom_expr", "power"}:
            return
        for at, trailer in enumerate(node.children):
            if at == 0 or trailer.type != "trailer" or trailer.children[0] != "(":
                continue
            before = node.children[at - 1]
            name = before.children[1] if before.type == "trailer" and before.children[0] == "." else before
            if name.type != "name" or name.value not in SHAPE_KEEPING:
                continue
            of_module = at == 1 or (at < 4 and node.children[0].get_code(include_prefix=False) in MODULES)
            if of_module:
                arguments = trailer.children[1]
                first = arguments.children[0] if arguments.type == "arglist" else arguments
                if first.type != "argument" and first != ")":
                    if name.value == "where":
                        if arguments.type == "arglist" and len(arguments.children) >= 5:
                            yield at, arguments.children[4].get_code()
                    else:
                        yield at, first.get_code()
            elif before.type == "trailer":
                yield at, "".join(child.get_code() for child in node.children[: at - 1])


def _raises(suite) -> bool:
    statements = [child for child in suite.children if child.type != "newline"] if suite.type == "suite" else [suite]
    if len(statements) != 1:
        return False
    return statements[0].get_first_leaf() == "raise"


def operators() -> dict[str, Operator]:
    """All of them by name."""
    provider = OperatorProvider()
    own = {kind.__name__: kind() for kind in (GuardDropped, OperandDropped, KeywordDropped, CallUnwrapped)}
    return {name: provider[name]() for name in CORE} | own
