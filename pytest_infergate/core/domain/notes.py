"""Codes of notes, with what each means and what a user can do about it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple


class NoteCode(str, Enum):
    """Code of a note that infergate itself makes. Plugins may use further codes of their own."""

    # From Python 3.11 on, an enum of strings would otherwise be formatted as its name instead of its value.
    __str__ = str.__str__

    ACCEPTED = "accepted"
    ACCURACY = "accuracy"
    ARGUMENT_CONSUMED = "argument-consumed"
    ASSUMED_INSTANCE = "assumed-instance"
    ASSUMED_PRICE = "assumed-price"
    BASE_COLLECTION = "base-collection"
    BASE_ENDED = "base-ended"
    BASE_FAILED = "base-failed"
    BASE_LOST = "base-lost"
    BASE_UNUSABLE = "base-unusable"
    BUDGET_INCONCLUSIVE = "budget-inconclusive"
    BUDGET_NOT_DECIDED = "budget-not-decided"
    COMPILED = "compiled"
    CONCURRENT_RUN_FAILED = "concurrent-run-failed"
    CONTENDED_TIME = "contended-time"
    CONTROL_MOVED = "control-moved"
    CPU_CONTENTION = "cpu-contention"
    DEMAND_UNMET = "demand-unmet"
    DESELECTED = "deselected"
    DEVICE_ABSENT = "device-absent"
    DEVICE_TIME_UNSEEN = "device-time-unseen"
    DRIFTED = "drifted"
    ENERGY_ESTIMATED = "energy-estimated"
    ENERGY_SHARED = "energy-shared"
    ENERGY_SKIPPED = "energy-skipped"
    ENERGY_UNKNOWN = "energy-unknown"
    ENERGY_UNREAD = "energy-unread"
    FIRST_CALL_LONG = "first-call-long"
    FLOPS_UNCOVERED = "flops-uncovered"
    GRADIENTS_ON = "gradients-on"
    GRAPH_BREAKS = "graph-breaks"
    HOST_BOUND = "host-bound"
    INCOMPARABLE = "incomparable"
    INPUTS_CHANGED = "inputs-changed"
    INSTANCE_MEMORY = "instance-memory"
    INSTRUMENT_FAILED = "instrument-failed"
    INTERRUPTED = "interrupted"
    LATENCY_UNREADABLE = "latency-unreadable"
    LEFT_OUT = "left-out"
    LESS_ACCURATE = "less-accurate"
    LESS_WORK = "less-work"
    LESS_WORK_OVERALL = "less-work-overall"
    LIMIT_UNMET = "limit-unmet"
    LIMIT_UNREACHABLE = "limit-unreachable"
    LOAD_LATE = "load-late"
    LOAD_NOT_BATCHED = "load-not-batched"
    LOAD_NOT_MEASURED = "load-not-measured"
    LOAD_SATURATED = "load-saturated"
    MAX_TOTAL = "max-total"
    MEMORY_REMAPPED = "memory-remapped"
    MEMORY_UNSEEN = "memory-unseen"
    NAN_OUTPUT = "nan-output"
    NEW_CASE = "new-case"
    NO_ACCELERATOR = "no-accelerator"
    NO_COUNTERS = "no-counters"
    NO_KERNEL = "no-kernel"
    NO_TIMINGS = "no-timings"
    NO_WORK = "no-work"
    NOT_CONVERTED = "not-converted"
    NOT_COUNTED = "not-counted"
    NOT_FINITE = "not-finite"
    NOT_PROJECTED = "not-projected"
    NOT_STEADY = "not-steady"
    NOT_TIMED = "not-timed"
    ONE_BATCH_SIZE = "one-batch-size"
    ONE_PRICE = "one-price"
    OPERATORS_UNSEEN = "operators-unseen"
    OTHER_MACHINE = "other-machine"
    OUT_OF_MEMORY = "out-of-memory"
    OUTPUTS_DIFFER = "outputs-differ"
    OUTPUTS_NOT_COMPARED = "outputs-not-compared"
    P95_NOT_PROMISED = "p95-not-promised"
    PAGE_FAULTS = "page-faults"
    PRICES_ABSENT = "prices-absent"
    PRICES_CONTRADICTORY = "prices-contradictory"
    PRICES_DOUBTFUL = "prices-doubtful"
    PRICES_LEFT_OUT = "prices-left-out"
    PRICES_OLD = "prices-old"
    PRICES_UNDATED = "prices-undated"
    PROCESS_LOST = "process-lost"
    RANDOM_NUMBERS = "random-numbers"
    RECOMPILED = "recompiled"
    REGIMES_DIFFER = "regimes-differ"
    RUNTIME_ABSENT = "runtime-absent"
    SHAPE_CHANGED = "shape-changed"
    SHORT_CALL = "short-call"
    SINGLE_WORKER = "single-worker"
    SKIPPED = "skipped"
    SPEED_CHANGED = "speed-changed"
    SPOT_DROPPED = "spot-dropped"
    STATE_ADVANCES = "state-advances"
    STORED_TIMING_IS_COARSE = "stored-timing-is-coarse"
    TAIL_UNSEEN = "tail-unseen"
    TENSOR_NOT_COPIED = "tensor-not-copied"
    TENSORS_KEPT = "tensors-kept"
    TEST_FAILED = "test-failed"
    THROTTLED = "throttled"
    TIMES_DISAGREE = "times-disagree"
    TIME_LIMIT = "time-limit"
    TOO_FAST = "too-fast"
    TOO_MANY_INSTANCES = "too-many-instances"
    TORCH_STATE = "torch-state"
    TRACER = "tracer"
    TRAINING_MODE = "training-mode"
    UNDECIDED = "undecided"
    UNFINISHED_OUTPUT = "unfinished-output"
    UNKNOWN_MACHINE = "unknown-machine"
    UNPRICED = "unpriced"
    UNSTABLE_ID = "unstable-id"
    UNUSED_MARKER = "unused-marker"
    VARIES = "varies"
    WEIGHTS_UNSEEN = "weights-unseen"
    WORK_CHANGED = "work-changed"
    WRONG_DEVICE = "wrong-device"


KEEP_MEMORY = "MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=2147483648 MALLOC_TOP_PAD_=67108864"
"""Variables of the environment with which glibc keeps the memory of large activations from call to call."""


class NoteMeaning(NamedTuple):
    """What a code means in general; the text of a note adds the figures of the case."""

    text: str
    hint: str = ""


MEANINGS: Mapping[NoteCode, NoteMeaning] = MappingProxyType(
    {
        NoteCode.ACCEPTED: NoteMeaning("A commit accepts this change."),
        NoteCode.ACCURACY: NoteMeaning(
            "The model runs in another dtype than it was given in; its accuracy is not checked here.",
            "Assert the accuracy in the test.",
        ),
        NoteCode.ARGUMENT_CONSUMED: NoteMeaning(
            "An argument is an iterator, which the first call exhausts.", "Pass a list."
        ),
        NoteCode.ASSUMED_INSTANCE: NoteMeaning(
            "The instance type is inferred from the hardware class.",
            "Confirm it with --instance DEVICE=NAME.",
        ),
        NoteCode.ASSUMED_PRICE: NoteMeaning(
            "The machine is not in the price table; the price of the nearest one is assumed.",
            "Set its price in [tool.infergate.instances].",
        ),
        NoteCode.BASE_COLLECTION: NoteMeaning(
            "The base cannot collect the test module.",
            "List files that the tests need under overlay in [tool.infergate].",
        ),
        NoteCode.BASE_ENDED: NoteMeaning(
            "The test ended on the base before or while it was timed.", "Run the test at that revision."
        ),
        NoteCode.BASE_FAILED: NoteMeaning(
            "The test does not pass on the base.", "Run the test at that revision."
        ),
        NoteCode.BASE_LOST: NoteMeaning(
            "The process of the base died in this case.", "Run the test at that revision."
        ),
        NoteCode.BASE_UNUSABLE: NoteMeaning(
            "The base cannot collect any test.", "Run its tests at that revision."
        ),
        NoteCode.BUDGET_INCONCLUSIVE: NoteMeaning(
            "The measurement is too uncertain to decide the budget.",
            "Measure longer, or on a quieter machine.",
        ),
        NoteCode.BUDGET_NOT_DECIDED: NoteMeaning(
            "Something that the budget needs is missing, and an unchecked budget counts as failed.",
            "Provide what it needs, or remove the budget.",
        ),
        NoteCode.COMPILED: NoteMeaning(
            "torch.compile is active: some counters describe what was compiled before it ran."
        ),
        NoteCode.CONCURRENT_RUN_FAILED: NoteMeaning(
            "The test did not end in every concurrent worker process."
        ),
        NoteCode.CONTENDED_TIME: NoteMeaning(
            "Other processes took much processor time: only what they cannot explain is decided.",
            "Measure on a machine that is otherwise idle.",
        ),
        NoteCode.CONTROL_MOVED: NoteMeaning(
            "Identical code differed between the two sides, so that no time of the run counts.",
            "Run again on a quieter machine.",
        ),
        NoteCode.CPU_CONTENTION: NoteMeaning(
            "Other processes or the hypervisor took processor time while the case was timed.",
            "Run again, or on a quieter machine.",
        ),
        NoteCode.DEMAND_UNMET: NoteMeaning(
            "No number of machines serves the demand.",
            "Lower the demand, or measure larger batches or faster machines.",
        ),
        NoteCode.DESELECTED: NoteMeaning(
            "The marker and the command line have no value of an axis in common.", "Change one of them."
        ),
        NoteCode.DEVICE_ABSENT: NoteMeaning(
            "The device is not available.", "Attach it, or leave it out of --infer-devices."
        ),
        NoteCode.DEVICE_TIME_UNSEEN: NoteMeaning("No profiler can observe the kernels of the device."),
        NoteCode.ENERGY_ESTIMATED: NoteMeaning(
            "The energy is an estimate, not a measurement.", "Measure where NVML or RAPL can be read."
        ),
        NoteCode.DRIFTED: NoteMeaning(
            "The time is slower than in the first sessions since the last accepted change, although not "
            "slower than in the last ones.",
            "Find the change with infergate history, or accept it with infergate baseline accept.",
        ),
        NoteCode.ENERGY_SHARED: NoteMeaning(
            "Other processes used the device while its energy was measured.", "Run alone on the device."
        ),
        NoteCode.ENERGY_SKIPPED: NoteMeaning(
            "There was no time left to measure the energy.", "Raise --infer-max-time."
        ),
        NoteCode.ENERGY_UNKNOWN: NoteMeaning(
            "There is neither a meter nor an estimate of the energy.",
            "Measure where NVML or RAPL can be read.",
        ),
        NoteCode.ENERGY_UNREAD: NoteMeaning("The energy counter could not be read, or did not change."),
        NoteCode.FIRST_CALL_LONG: NoteMeaning(
            "The first call took much longer than later ones, which may reuse its results.",
            "Make each call compute its result.",
        ),
        NoteCode.FLOPS_UNCOVERED: NoteMeaning("The FLOPs of some operators are unknown and are not counted."),
        NoteCode.GRADIENTS_ON: NoteMeaning(
            "Gradients were recorded while the case was timed.",
            "Call the model under torch.inference_mode().",
        ),
        NoteCode.GRAPH_BREAKS: NoteMeaning("torch.compile could not compile the model in one graph."),
        NoteCode.HOST_BOUND: NoteMeaning(
            "Launching the operators takes longer than their work: a projection shows an order of magnitude.",
            "Measure on such a device, or compile the model.",
        ),
        NoteCode.INCOMPARABLE: NoteMeaning(
            "The figure cannot be compared with its baseline.",
            "Record a baseline on this machine with --infer-save.",
        ),
        NoteCode.INPUTS_CHANGED: NoteMeaning(
            "The call changes its arguments. They are restored before each call, untimed.",
            "Copy the arguments inside the model.",
        ),
        NoteCode.INSTANCE_MEMORY: NoteMeaning("The instance has less memory than the deployment takes."),
        NoteCode.INSTRUMENT_FAILED: NoteMeaning(
            "A part of the measurement failed on this device: its figure is missing.",
            "Look at the device or its driver; the test itself is not affected.",
        ),
        NoteCode.INTERRUPTED: NoteMeaning(
            "The run was interrupted before this case was decided.", "Run it again to its end."
        ),
        NoteCode.LATENCY_UNREADABLE: NoteMeaning(
            "The latency is not a positive, finite time.", "Give one call more work."
        ),
        NoteCode.LEFT_OUT: NoteMeaning("A case cannot be advised on."),
        NoteCode.LESS_ACCURATE: NoteMeaning(
            "The accuracy is too far below that of eager PyTorch on the CPU.", "Set accuracy_tolerance."
        ),
        NoteCode.LESS_WORK: NoteMeaning(
            "The call does less work than on record.", "Record it with --infer-save."
        ),
        NoteCode.LESS_WORK_OVERALL: NoteMeaning(
            "Operators, allocations or Python's own work rose by a smaller share than the work or time fell."
        ),
        NoteCode.LIMIT_UNMET: NoteMeaning(
            "No plan meets the latency limit.", "Measure a faster machine, or allow more time."
        ),
        NoteCode.LIMIT_UNREACHABLE: NoteMeaning(
            "No number of instances meets the latency limit.", "Measure a faster machine, or allow more time."
        ),
        NoteCode.LOAD_LATE: NoteMeaning(
            "LoadGen sent requests late or noticed answers late: latencies under load are longer than shown.",
            "Leave a core for LoadGen.",
        ),
        NoteCode.LOAD_NOT_BATCHED: NoteMeaning(
            "Under load, each request is the whole input of the test, which cannot be divided into items.",
            "Pass infer tensors whose first dimension is the batch size.",
        ),
        NoteCode.LOAD_NOT_MEASURED: NoteMeaning("The model was not measured under load."),
        NoteCode.LOAD_SATURATED: NoteMeaning(
            "The load is more than the model serves in time.", "Lower the load, or raise the batch sizes."
        ),
        NoteCode.MAX_TOTAL: NoteMeaning(
            "The total time limit was spent before this case.",
            "Raise --infer-max-total, or select fewer cases.",
        ),
        NoteCode.MEMORY_REMAPPED: NoteMeaning(
            "Calls map another number of memory pages than on record, which takes time.",
            "Record sessions in which the malloc variables keep memory, or compare pairs.",
        ),
        NoteCode.MEMORY_UNSEEN: NoteMeaning("The peak of the device memory cannot be observed."),
        NoteCode.NAN_OUTPUT: NoteMeaning(
            "The output holds NaN.", "Give the model weights and inputs that do not overflow."
        ),
        NoteCode.NEW_CASE: NoteMeaning("The base does not have this case."),
        NoteCode.NO_ACCELERATOR: NoteMeaning(
            "No accelerator was measured.", "Measure with --infer-devices=cpu,cuda on a machine that has one."
        ),
        NoteCode.NO_COUNTERS: NoteMeaning(
            "The counter is not on record yet.", "Record it with --infer-save."
        ),
        NoteCode.NO_KERNEL: NoteMeaning(
            "The call launched no kernel on the device.",
            "Place the model and its inputs on the device of the case.",
        ),
        NoteCode.NO_TIMINGS: NoteMeaning("A process launch ended without a time of both sides."),
        NoteCode.NOT_CONVERTED: NoteMeaning(
            "The model cannot be converted for the runtime.", "The text has the reason of the exporter."
        ),
        NoteCode.NO_WORK: NoteMeaning(
            "The call of a model with weights runs no operator of torch: it may read an earlier result.",
            "Empty its cache in the callable, or give it a new folder in each test.",
        ),
        NoteCode.NOT_COUNTED: NoteMeaning("The counters could not be taken."),
        NoteCode.NOT_FINITE: NoteMeaning("A figure of the results is not finite and was left out."),
        NoteCode.NOT_PROJECTED: NoteMeaning(
            "The counters do not describe the time of the case on other hardware.",
            "Measure on the device.",
        ),
        NoteCode.NOT_TIMED: NoteMeaning(
            "The run takes counters only: budgets of times are not checked, and do not fail it.",
            "Check them in a run without `--infer-counters-only`.",
        ),
        NoteCode.NOT_STEADY: NoteMeaning(
            "The warm-up ended before call times became steady.", "Raise --infer-max-time."
        ),
        NoteCode.ONE_BATCH_SIZE: NoteMeaning(
            "Only one batch size was measured.", "Give the marker several batch_sizes."
        ),
        NoteCode.ONE_PRICE: NoteMeaning(
            "One price applies to several measured machines.", "Give each machine its own --price."
        ),
        NoteCode.OPERATORS_UNSEEN: NoteMeaning("Some operators cannot be observed."),
        NoteCode.OTHER_MACHINE: NoteMeaning(
            "The configured instance type is not the machine that was measured.",
            "Configure the instance type of this machine.",
        ),
        NoteCode.OUT_OF_MEMORY: NoteMeaning(
            "The case ran out of memory.", "Use a smaller batch or a larger device."
        ),
        NoteCode.OUTPUTS_DIFFER: NoteMeaning(
            "Base and candidate compute different outputs.",
            "Set a parity tolerance, or parity=False, if that is intended.",
        ),
        NoteCode.OUTPUTS_NOT_COMPARED: NoteMeaning(
            "A part of the output cannot be compared with that of the base, or differs from call to call.",
            "Compare that part in the test, or leave it out of the output.",
        ),
        NoteCode.P95_NOT_PROMISED: NoteMeaning(
            "Too few calls were sampled to show the slowest hundredth, or their order is unknown.",
            "Measure with --infer-demand.",
        ),
        NoteCode.PAGE_FAULTS: NoteMeaning("Memory for large activations is mapped again on each call."),
        NoteCode.PRICES_ABSENT: NoteMeaning("A provider's prices could not be fetched."),
        NoteCode.PRICES_CONTRADICTORY: NoteMeaning("A catalogue has several prices of one instance type."),
        NoteCode.PRICES_DOUBTFUL: NoteMeaning("Prices of one accelerator at one provider differ widely."),
        NoteCode.PRICES_LEFT_OUT: NoteMeaning("Rows of a catalogue are not usable prices and were left out."),
        NoteCode.PRICES_OLD: NoteMeaning(
            "Prices are older than 90 days.", "Refresh them with infergate prices refresh."
        ),
        NoteCode.PRICES_UNDATED: NoteMeaning(
            "Prices have no date.", "Refresh them with infergate prices refresh."
        ),
        NoteCode.PROCESS_LOST: NoteMeaning(
            "The worker process died in this case.", "Run the test without a paired run."
        ),
        NoteCode.RANDOM_NUMBERS: NoteMeaning(
            "The call draws random numbers. Each call draws those of the first one, and does the same work.",
            "If the work depends on the numbers, measure several seeds as cases.",
        ),
        NoteCode.RECOMPILED: NoteMeaning("The model was compiled again while it was timed."),
        NoteCode.REGIMES_DIFFER: NoteMeaning(
            "A call takes another time in a paired worker than in a plain process, which shows no slowdown.",
            "Compare on one thread, or set the thread variables of the service.",
        ),
        NoteCode.RUNTIME_ABSENT: NoteMeaning(
            "The runtime is not available.", "Install it, or leave it out of --infer-runtimes."
        ),
        NoteCode.SHAPE_CHANGED: NoteMeaning("The output changes its shape between calls."),
        NoteCode.SHORT_CALL: NoteMeaning(
            "One call is so short that the overhead of timing matters.", "Give one call more work."
        ),
        NoteCode.SINGLE_WORKER: NoteMeaning(
            "Only one worker process was measured.", "Measure several with --infer-workers."
        ),
        NoteCode.SKIPPED: NoteMeaning("The test was skipped."),
        NoteCode.SPEED_CHANGED: NoteMeaning(
            "The reference workloads differ from those on record by more than they are known to correct.",
            "Record sessions at the present speed of the machine.",
        ),
        NoteCode.SPOT_DROPPED: NoteMeaning("A spot price above the on-demand price was ignored."),
        NoteCode.STATE_ADVANCES: NoteMeaning(
            "Each call changes the state of the model; the work of rare calls is not in the figures.",
            "Measure a whole period as one call, for instance a loop over the chunks of a stream.",
        ),
        NoteCode.STORED_TIMING_IS_COARSE: NoteMeaning(
            "Stored baselines can only show large slowdowns on this machine.",
            "Compare with --infer-against=REV.",
        ),
        NoteCode.TAIL_UNSEEN: NoteMeaning(
            "A slow hundredth of calls may be unseen in so few calls: no p95 under load is promised.",
            "Raise --infer-max-time.",
        ),
        NoteCode.TENSOR_NOT_COPIED: NoteMeaning(
            "A tensor cannot be copied, so that what calls change in it is not restored.",
            "Make sure that calls do not change it, or implement clone() and copy_() for its class.",
        ),
        NoteCode.TENSORS_KEPT: NoteMeaning(
            "Each call leaves tensors in memory, which grows until it is full.",
            "Clear the list or cache that keeps them inside the callable.",
        ),
        NoteCode.TEST_FAILED: NoteMeaning("The test itself failed.", "Fix the test first."),
        NoteCode.THROTTLED: NoteMeaning(
            "The clock of the accelerator was throttled.", "Run again once it has cooled down."
        ),
        NoteCode.TIMES_DISAGREE: NoteMeaning(
            "The kernels of a call, or the time until it returns, take longer than the whole call.",
            "Look for overlapping streams, other processes, or a device that is not waited for.",
        ),
        NoteCode.TIME_LIMIT: NoteMeaning(
            "The time limit ended the case before it was decided.",
            "Raise --infer-max-time or --infer-max-total.",
        ),
        NoteCode.TOO_FAST: NoteMeaning(
            "The call took less time than its work needs on this device, which is not waited for.",
            "Check the synchronisation of the device.",
        ),
        NoteCode.TOO_MANY_INSTANCES: NoteMeaning(
            "The demand needs more instances than allowed.",
            "Allow more, or serve larger batches on faster machines.",
        ),
        NoteCode.TORCH_STATE: NoteMeaning("Global settings of torch differ from their defaults."),
        NoteCode.TRACER: NoteMeaning(
            "A tracer, debugger or profiler was active while the case was timed.",
            "Run without it, for instance with --no-cov.",
        ),
        NoteCode.TRAINING_MODE: NoteMeaning("The model was in training mode.", "Call model.eval()."),
        NoteCode.UNDECIDED: NoteMeaning(
            "The last interim analysis did not decide the case.", "Run again, or raise the tolerance."
        ),
        NoteCode.UNFINISHED_OUTPUT: NoteMeaning(
            "The call returned before its work was done.", "Wait for the result inside the callable."
        ),
        NoteCode.UNKNOWN_MACHINE: NoteMeaning(
            "The price table has no machine of this kind.", "Give --price."
        ),
        NoteCode.UNPRICED: NoteMeaning(
            "No price is configured for the machine.", "Set it in [tool.infergate.instances]."
        ),
        NoteCode.UNSTABLE_ID: NoteMeaning(
            "The id of the test differs between processes of the same code.",
            "Give its parameters ids that are the same in every process.",
        ),
        NoteCode.UNUSED_MARKER: NoteMeaning(
            "A test with the marker does not use `infer` and ran as an ordinary test.",
            "Give the test the argument `infer`, or ignore this if the marker belongs to another project.",
        ),
        NoteCode.VARIES: NoteMeaning("Counters change from call to call and are not gated."),
        NoteCode.WEIGHTS_UNSEEN: NoteMeaning(
            "The call uses memory that is neither among its arguments nor found in the model.",
            "Pass inputs as arguments, and keep weights in modules or objects that the callable refers to.",
        ),
        NoteCode.WORK_CHANGED: NoteMeaning(
            "Calls with the same arguments did not do the same work.",
            "Clear what the model keeps of a call; or call it once before infer.",
        ),
        NoteCode.WRONG_DEVICE: NoteMeaning(
            "The output is not on the device of the case.",
            "Place the model and its inputs on the device of the case.",
        ),
    }
)
"""Every code; the reference lists them."""

RENAMED: Mapping[str, NoteCode] = MappingProxyType(
    {
        "capped": NoteCode.TIME_LIMIT,
        "disturbed": NoteCode.CPU_CONTENTION,
        "fickle-id": NoteCode.UNSTABLE_ID,
        "launches-spent": NoteCode.UNDECIDED,
        "memory": NoteCode.INSTANCE_MEMORY,
        "nan": NoteCode.NAN_OUTPUT,
        "no-turns": NoteCode.NO_TIMINGS,
        "unfinished": NoteCode.UNFINISHED_OUTPUT,
        "workers": NoteCode.SINGLE_WORKER,
    }
)
"""Codes of version 0.1 that have another name now; results and baselines of 0.1 may hold them."""
