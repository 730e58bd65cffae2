"""Plans of a fleet name the class of their machine."""

from sessions import CPU, GPU, answer, given, plan

from pytest_infergate.fleet.class_names import with_class_names

OWN = plan(instance=f"4-core Test CPU, {CPU.id}", assumed="as much as another machine")


def instances(advice):
    (found,) = advice.answers
    return [one.instance for one in (*found.plans, *found.considered)]


def test_plans_name_the_class_in_place_of_the_hardware():
    card = plan(instance="g6.xlarge", hardware=GPU.id)
    advice = given(answer(plans=(OWN, card), considered=(card, OWN)))
    named = with_class_names(advice, {CPU.id: "one-core or two-cores"})
    own = "one-core or two-cores: 4-core Test CPU"
    assert instances(named) == [own, "g6.xlarge", "g6.xlarge", own]
    assert with_class_names(advice, {}) == advice
