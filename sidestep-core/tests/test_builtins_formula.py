"""Formulas for the learning rate: what they may say, what they come to, and that nothing else gets through."""

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sidestep_core.builtins.configs import CustomConfig
from sidestep_core.builtins.custom import Custom
from sidestep_core.builtins.formula import FUNCTIONS, NAMES, TEMPLATES, Formula
from sidestep_core.conversion import structure
from sidestep_core.errors import ConfigError
from sidestep_core.interfaces import Progress
from sidestep_core.specs import BuildContext

VALUES = dict.fromkeys(NAMES, 1.0) | {"step": 30.0, "progress": 0.25, "base_lr": 1e-4, "epoch": 3.5}
# 900 steps follow the warm-up
RUN = BuildContext(learning_rate=1e-4, total_steps=1000, steps_per_epoch=100)


def value(text):
    return Formula(text)(VALUES)


def custom(text, context=RUN):
    return Custom(CustomConfig(scheduler_formula=text), context)


def rate(controller, step, *, base=1e-4, total=900):
    return base * controller.scale(Progress(step=step, total_steps=total, steps_per_epoch=100, learning_rate=base))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("base_lr", 1e-4),
        ("1 + 2 * 3 - 4 / 8", 6.5),
        ("2 ** 3 ** 2", 512),
        ("-2 ** 2", -4),
        ("7 // 2 + 7 % 4", 6),
        ("+1 - -1", 2),
        ("1 if progress < 0.3 else 2", 1),
        ("1 if 0.1 < progress < 0.2 else 2", 2),
        ("(step > 20) * 3", 3),
        ("1 if step > 20 and not step > 40 else 0", 1),
        ("1 if step < 20 or step == 30 else 0", 1),
        ("epoch != 3.5", 0),
        ("min(3, 1, 2) + max(4, 5)", 6),
        ("clamp(5, 0, 2) + clamp(-5, 0, 2)", 2),
        ("pow(2, 10) + sqrt(9) + abs(-1)", 1028),
        ("cos(0) + sin(0) + exp(0) + log(e) + log(8, 2)", 6),
        ("cos(pi)", -1),
        ("  1  ", 1),
    ],
)
def test_arithmetic_is_as_in_python(text, wanted):
    assert value(text) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("   ", "it is empty"),
        ("base_lr *", "invalid syntax at character"),
        ("__import__('os')", "no function '__import__'; there is cos, sin"),
        ("learning_rate", "no name 'learning_rate'; there is step, total_steps"),
        ("cos", "no name 'cos'"),
        ("step()", "no function 'step'"),
        ("().__class__", "attribute is not arithmetic"),
        ("cos.__self__", "attribute is not arithmetic"),
        ("cos.__call__(1)", "call is not arithmetic"),
        ("(lambda: 1)()", "call is not arithmetic"),
        ("[1][0]", "subscript is not arithmetic"),
        ("[x for x in (1,)]", "listcomp is not arithmetic"),
        ("'a'", "constant is not arithmetic"),
        ("True", "constant is not arithmetic"),
        ("1j", "constant is not arithmetic"),
        ("None", "constant is not arithmetic"),
        ("f'{step}'", "joinedstr is not arithmetic"),
        ("(x := 1)", "namedexpr is not arithmetic"),
        ("1 << 9", "binop is not arithmetic"),
        ("~1", "unaryop is not arithmetic"),
        ("1 in (1, 2)", "compare is not arithmetic"),
        ("1 is 1", "compare is not arithmetic"),
        ("max(1, *(2, 3))", "starred is not arithmetic"),
        ("cos(x=1)", "call is not arithmetic"),
        ("max(1)", "max() does not take 1 values"),
        ("pow(1)", "pow() does not take 1 values"),
        ("clamp(1, 2)", "clamp() does not take 2 values"),
        ("step = 1", "invalid syntax"),
        ("1; 2", "invalid syntax"),
        ("1e999", "it holds a number that is too large"),
        ("9" * 500, "it holds a number that is too large"),
        ("step\0", "null bytes"),
        ("\ud800", "surrogates not allowed"),
        ("1+" * 400 + "1", "it nests too deeply"),
        ("-" * 999 + "1", "it nests too deeply"),
        ("(" * 499 + "1" + ")" * 499, "too many nested parentheses"),
        ("cos(" * 150 + "1" + ")" * 150, "it nests too deeply"),
        ("1" * 10_000_000, "it is longer than 1000 characters"),
        ("(" * 10_000_000, "it is longer than 1000 characters"),
    ],
    ids=lambda text: text[:20].encode("unicode_escape").decode(),
)
def test_anything_else_is_refused_in_one_line(text, reason):
    with pytest.raises(ValueError, match=r"^scheduler formula ") as refused:
        Formula(text)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize(
    "text",
    ["9 ** 9 ** 9 ** 9", "pow(9, pow(9, 99))", "((((9 ** 99) ** 99) ** 99) ** 99)", "exp(exp(exp(99)))"],
)
def test_huge_powers_are_refused_at_once(text):
    with pytest.raises(ConfigError, match="at step 0 of 900"):
        custom(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1/(step-450)", "float division by zero at step 450 of 900"),
        ("log(progress)", "at step 0 of 900"),
        ("sqrt(100 - step)", "at step 101 of 900"),
        ("(0 - 8) ** (1 / 3)", "at step 0 of 900"),
        ("1e308 * 10", "not finite at step 0 of 900"),
        ("1 / (step - 899)", "at step 899 of 900"),
    ],
)
def test_a_formula_without_a_value_somewhere_is_refused(text, reason):
    with pytest.raises(ConfigError) as refused:
        custom(text)
    assert str(refused.value).startswith(f"scheduler formula '{text}': ")
    assert str(refused.value).endswith(reason)


def test_a_run_without_a_formula_is_refused():
    with pytest.raises(ConfigError, match="it is empty; set it with --scheduler-formula"):
        custom("")


def test_a_bad_formula_is_refused_as_a_setting_already():
    with pytest.raises(ConfigError, match=r"^lr-control\.custom: scheduler formula 'x': no name 'x'"):
        structure({"scheduler_formula": "x"}, CustomConfig, "lr-control.custom")


@pytest.mark.parametrize(
    ("name", "preview"),
    [
        ("cosine", [0.0001, 5e-05, 3.0461711048035415e-10]),
        ("cosine_floor", [0.0001, 5e-05, 1e-06]),
        ("constant_then_cosine", [0.0001, 8.117449009293667e-05, 6.216669154068822e-10]),
        ("step_decay", [0.0001, 0.0001, 0.0001]),
        ("linear_floor", [0.0001, 5e-05, 1e-05]),
    ],
)
@pytest.mark.parametrize("as_text", [False, True])
def test_templates_give_the_rates_they_are_known_for(name, preview, as_text):
    controller = custom(TEMPLATES[name] if as_text else name)
    assert [rate(controller, step) for step in (0, 450, 899)] == pytest.approx(preview)


def test_epochs_count_from_the_end_of_the_warm_up():
    controller = custom("base_lr * (1 - epoch / total_epochs)")
    assert [rate(controller, step) for step in (0, 450)] == pytest.approx([1e-4, 5e-5])


def test_a_longer_run_follows_the_formula():
    controller = custom("linear_floor")
    assert rate(controller, 900, total=1800) == pytest.approx(5e-5)


def test_a_negative_rate_is_zero():
    assert rate(custom("base_lr * (0.5 - progress)"), 800) == 0


def test_a_step_without_a_value_that_was_not_tried_has_the_rate_zero():
    assert rate(custom("base_lr / (step - 950)"), 950, total=1000) == 0


def test_a_rate_too_large_for_the_peak_is_zero():
    assert custom("1e300").scale(Progress(step=0, total_steps=9, steps_per_epoch=1, learning_rate=1e-300)) == 0


def test_every_function_is_in_the_help():
    [field] = CustomConfig.__attrs_attrs__
    shown = field.metadata["sidestep"]["help"]
    assert all(word in shown for word in [*FUNCTIONS, *NAMES, *TEMPLATES])


LEAVES = st.one_of(
    st.sampled_from([*NAMES, "pi", "e"]),
    st.floats(0, 1e300).map(repr),
    st.integers(0, 10**30).map(str),
)


def _grow(inner):
    return st.one_of(
        st.builds(
            "({} {} {})".format,
            inner,
            st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "<", ">=", "==", "and", "or"]),
            inner,
        ),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("(- {})".format, inner),
        st.builds("{}({})".format, st.sampled_from(["cos", "sin", "exp", "log", "sqrt", "abs"]), inner),
        st.builds("{}({}, {})".format, st.sampled_from(["min", "max", "pow", "log"]), inner, inner),
        st.builds("clamp({}, {}, {})".format, inner, inner, inner),
    )


@given(st.recursive(LEAVES, _grow, max_leaves=12), st.integers(1, 2000), st.floats(1e-8, 1))
def test_whatever_is_accepted_gives_finite_factors_that_are_not_negative(text, total, base):
    try:
        controller = custom(text, BuildContext(learning_rate=base, total_steps=20, steps_per_epoch=3))
    except (ConfigError, ValueError):
        return
    for step in (0, 1, total // 2, total):
        factor = controller.scale(Progress(step=step, total_steps=total, steps_per_epoch=3, learning_rate=base))
        assert math.isfinite(factor)
        assert factor >= 0


@given(st.text(max_size=60) | st.text("()*-+/.,_[]{}:=<>'\"\\ e19stepcoimx\n", max_size=60))
def test_any_text_is_a_formula_or_refused(text):
    try:
        formula = Formula(text)
    except ValueError:
        return
    with contextlib.suppress(ArithmeticError, ValueError):
        assert isinstance(formula(VALUES), float)
