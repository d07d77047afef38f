"""The life-cycle node `ivlm_contact`: image and detections in, contact and affordance out.

`configure` loads the model, `activate` subscribes, `deactivate` unsubscribes, `cleanup` frees the memory. Subscriptions
hand their newest frame to one worker thread, which runs the model and publishes.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.timer import Timer
from std_srvs.srv import SetBool

from ivlm_core.errors import InputError, IvlmError, shown
from ivlm_core.types import COCO_KEYPOINTS, BodyKeypoints, CameraIntrinsics, Frame, ObjectQuery
from ivlm_ros.answering import ask, question_from_messages, reason_of_nothing
from ivlm_ros.detections import BODY_TYPES, DETECTION_TYPES, message_class
from ivlm_ros.inputs import Inputs, Job
from ivlm_ros.log_folder import no_log_folder, use_writable_log_folder
from ivlm_ros.outputs import Outputs
from ivlm_ros.parameters import NodeParameters, ParameterStore
from ivlm_ros.reporting import Reporter
from ivlm_ros.requests import Engine, Requests
from ivlm_ros.scene_inputs import SceneMessages
from ivlm_ros.security import explained, what_is_missing
from ivlm_ros.transport import use_large_image_profile
from ivlm_ros.worker import WORKER_THREAD, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

NODE_NAME = "ivlm_contact"
# How long `deactivate` lets the frame that is being worked on come to its end.
FINISH_SECONDS = 30.0
# How long a stopped process does; together with the rest it must end within 2 s.
STOP_SECONDS = 0.5

Transition = Callable[["ContactNode", LifecycleState], TransitionCallbackReturn]


def _return_memory() -> None:
    """Give what is no longer used back to the device and to the system.

    glibc keeps it otherwise: each configuration works in threads of its own, whose arenas the next does not empty.
    """
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    # Another C library has no such function, and no such arenas.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


def _load_pipeline(parameters: NodeParameters) -> Any:
    import torch

    from ivlm_core import Pipeline

    # A model on every core would leave none to the callbacks, and its threads would wait for each other's turns.
    torch.set_num_threads(parameters.threads or max(1, len(os.sched_getaffinity(0)) - 1))
    return Pipeline.load(
        parameters.model,
        device=parameters.device,
        dtype=parameters.dtype,
        reasoning=parameters.reasoning,
        mode=parameters.mode,
        quantize=parameters.quantize,
        graphs=parameters.graphs,
        cache_dir=Path(parameters.cache_dir) if parameters.cache_dir else None,
        body=parameters.body_model,
        body_path=Path(parameters.body_model_path) if parameters.body_model_path else None,
        output_body=parameters.output_body_model,
        output_body_path=Path(parameters.output_body_model_path) if parameters.output_body_model_path else None,
        body_map_path=Path(parameters.body_map_path) if parameters.body_map_path else None,
        library=Path(parameters.objects_path) if parameters.objects_path else None,
        reconstruct=parameters.reconstruct,
        tracking=parameters.tracking,
        sam=Path(parameters.sam_path) if parameters.sam_path and parameters.reconstruct else None,
    )


def _warm_up(pipeline: Any, reconstruct: bool) -> None:
    """Run once: the first run pays for lazy initialisation everywhere; the first real frame should not."""
    frame, query = Frame(np.full((480, 640, 3), 127, np.uint8)), ObjectQuery("chair")
    if not reconstruct:
        pipeline.run(frame, [query])
        return
    # Nobody looks like these points, and the chair is not there: what counts is that both are looked for.
    points = np.linspace((220.0, 80.0), (420.0, 400.0), len(COCO_KEYPOINTS), dtype=np.float32)
    scene = replace(
        frame,
        intrinsics=CameraIntrinsics(500.0, 500.0, 319.5, 239.5, 640, 480),
        depth=np.full((480, 640), 2.0, np.float32),
        keypoints=(BodyKeypoints(points, np.ones(len(points), np.float32)),),
    )
    pipeline.run(scene, [replace(query, box_xyxy=(220.0, 120.0, 420.0, 360.0))])
    pipeline.forget()


def _transition(method: Transition) -> Transition:
    """Reports what a transition raises: rclpy itself would swallow it without a word."""

    @functools.wraps(method)
    def wrapped(self: ContactNode, state: LifecycleState) -> TransitionCallbackReturn:
        with self.working():
            try:
                return method(self, state)
            except Exception as error:
                name = method.__name__.removeprefix("on_")
                self.setup_error = str(error) if isinstance(error, IvlmError) else f"{type(error).__name__}: {error}"
                self.reporter.counters.error("internal_error", name, self.setup_error)
                self.get_logger().error(f"{name} failed: {self.setup_error}")
                if name == "configure":
                    self._free()
                    return TransitionCallbackReturn.FAILURE
                return TransitionCallbackReturn.ERROR

    return wrapped


class ContactNode(LifecycleNode):
    """See the module's text; parameters are in `ivlm_ros.parameters.TABLE`.

    Parameters
    ----------
    load_pipeline : makes the pipeline from the parameters; `Pipeline.load` when left out.
    options : passed on to rclpy's node (`namespace`, `parameter_overrides`, `context`, …).

    Raises
    ------
    ConfigError : a parameter given at start is wrong.
    """

    def __init__(self, load_pipeline: Callable[[NodeParameters], Any] = _load_pipeline, **options: Any) -> None:
        super().__init__(NODE_NAME, **options)
        self.reporter = Reporter(self)
        self.state = "unconfigured"
        self.setup_error = ""
        self.enabled = True
        self._load_pipeline = load_pipeline
        self._pipeline: Any = None
        self._outputs: Outputs | None = None
        self._inputs: Inputs | None = None
        self._worker: Worker[Job] | None = None
        self._working = 0
        self._working_lock = threading.Lock()
        self._configuring = False
        self.parameters = ParameterStore(self, configured=lambda: self._configuring or self._pipeline is not None)
        self._input_groups = (MutuallyExclusiveCallbackGroup(), MutuallyExclusiveCallbackGroup())
        service_group, report_group = MutuallyExclusiveCallbackGroup(), MutuallyExclusiveCallbackGroup()
        request_groups = (service_group, MutuallyExclusiveCallbackGroup())
        self._requests = Requests(self, request_groups, self.parameters, self.reporter, self._engine, self.working)
        self.create_service(SetBool, "~/enable", self._on_enable, callback_group=report_group)
        # A steady clock: with use_sim_time a paused simulation would otherwise silence the reports.
        self._timer = self.create_timer(
            1.0, self._report, callback_group=report_group, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        if self.parameters.values.autostart:
            self._starting = self._once(self._start)
        else:
            self.get_logger().info(
                f"waiting to be configured: ros2 lifecycle set {self.get_fully_qualified_name()} configure "
                "(or start it with -p autostart:=true)"
            )

    def _once(self, call: Callable[[], None]) -> Timer:
        """Call it when the executor runs."""

        def called() -> None:
            timer.cancel()
            call()

        timer: Timer = self.create_timer(
            0.0, called, MutuallyExclusiveCallbackGroup(), Clock(clock_type=ClockType.STEADY_TIME)
        )
        return timer

    def _start(self) -> None:
        """Configure and activate; what fails is told as that of any transition."""
        if self.state == "unconfigured" and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    @_transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model, run it once, create the publishers."""
        # From here on the parameters that are read now may not change.
        self._configuring = True
        try:
            return self._configure(state)
        finally:
            self._configuring = False

    def _configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.setup_error = ""
        self.reporter.counters.reset()
        values = self.parameters.values
        if values.without_effect:
            self.get_logger().warning(f"without 'reconstruct' there is no use for {', '.join(values.without_effect)}")
        if values.reconstruct and not (values.use_bodies or values.use_depth):
            self.get_logger().warning("reconstruct: no object can have a pose without use_bodies or use_depth: set one")
        message_class(values.detections_type, DETECTION_TYPES)
        message_class(values.bodies_type, BODY_TYPES)
        start = time.monotonic()
        pipeline = self._load_pipeline(values)
        _warm_up(pipeline, values.reconstruct)
        self._outputs = Outputs(
            self, self.reporter, values.body_frame, values.marker_triangles, values.shown, values.contact_points
        )
        self._pipeline = pipeline
        self.get_logger().info(f"model '{values.model}' ready in {time.monotonic() - start:.1f} s")
        return self._entered("inactive", super().on_configure(state))

    @_transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Enable the publishers, start the worker, subscribe."""
        result = super().on_activate(state)
        assert self._outputs is not None
        self._outputs.clear_markers()
        self._worker = Worker(self._process, self.reporter.dropped, lambda: self.parameters.values.max_rate)
        self._inputs = Inputs(
            self,
            self._input_groups,
            self.parameters,
            self.reporter,
            self._worker.put,
            lambda: self.enabled,
        )
        return self._entered("active", result)

    @_transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, finish the frame that is being worked on, disable the publishers."""
        self._stop_working(FINISH_SECONDS)
        if self._outputs is not None:
            self._outputs.clear_markers()
        return self._entered("inactive", super().on_deactivate(state))

    @_transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Destroy the publishers and free the model's memory."""
        self._free()
        return self._entered("unconfigured", super().on_cleanup(state))

    @_transition
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, from whatever state."""
        self._stop_working(FINISH_SECONDS)
        self._free()
        return self._entered("finalized", super().on_shutdown(state))

    @_transition
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, and be ready to be configured again."""
        self._stop_working(FINISH_SECONDS)
        self._free()
        return self._entered("unconfigured", super().on_error(state))

    def stop(self) -> bool:
        """Stop for the end of the process. False while the model, or a transition, is still working."""
        stopped = self._stop_working(STOP_SECONDS)
        deadline = time.monotonic() + STOP_SECONDS
        while self._working and time.monotonic() < deadline:
            time.sleep(0.01)
        return stopped and not self._working

    @contextmanager
    def working(self) -> Iterator[None]:
        """Marks the time in which the process must not tear anything down."""
        with self._working_lock:
            self._working += 1
        try:
            yield
        finally:
            with self._working_lock:
                self._working -= 1

    def _entered(self, name: str, result: TransitionCallbackReturn) -> TransitionCallbackReturn:
        if result == TransitionCallbackReturn.SUCCESS:
            self.state = name
        return result

    def _stop_working(self, timeout: float) -> bool:
        if self._inputs is not None:
            self._inputs.close()
            self._inputs = None
        worker, self._worker = self._worker, None
        if worker is None or worker.stop(timeout):
            return True
        self.get_logger().warning(f"the model is still busy after {timeout:.1f} s: its last frame is given up")
        return False

    def _free(self) -> None:
        if self._outputs is not None:
            self._outputs.close()
            self._outputs = None
        self._pipeline = None
        _return_memory()

    def _process(self, job: Job) -> None:
        """One frame from messages to messages; runs in the worker's thread and never raises."""
        pipeline, outputs, values = self._pipeline, self._outputs, self.parameters.values
        taken, processor = time.monotonic(), time.thread_time()
        try:
            question = question_from_messages(
                job.image,
                job.objects,
                job.labels,
                job.camera_info,
                values.max_objects,
                self._scene(job) if values.reconstruct else None,
                job.raw,
                values.person_labels,
            )
            for error in question.refused:
                self.reporter.bad_input(error)
        except IvlmError as error:
            self.reporter.bad_input(error)
            self.reporter.dropped("bad_input")
            return
        except Exception as error:
            self.reporter.failed(error)
            return
        shell = time.thread_time() - processor
        try:
            asked = time.perf_counter()
            result = ask(pipeline, question)
            model_seconds = time.perf_counter() - asked
            processor, published = time.thread_time(), time.perf_counter()
            outputs.publish(question, result, job.image.header, values.contact_threshold)  # type: ignore[union-attr]
        except Exception as error:
            if rclpy_ok(self):  # else the process is ending, and nothing can be published any more
                self.reporter.failed(error)
            return
        done = time.monotonic()
        counters = self.reporter.counters
        counters.add("frames_processed")
        reason, sentence = reason_of_nothing(question, result, values.contact_threshold)
        if reason:
            self.reporter.no_contact(reason, sentence)
        for fitted in result.reconstructions:
            self.reporter.posed(fitted)
        for stage, seconds in result.seconds.items():
            if stage != "total":
                counters.latency(stage, seconds)
        counters.latency("waited", taken - job.received)
        counters.latency("convert", question.seconds)
        counters.latency("model", model_seconds)
        counters.latency("publish", time.perf_counter() - published)
        counters.latency("shell_cpu", shell + time.thread_time() - processor)
        counters.latency("total", done - job.received)

    def _scene(self, job: Job) -> SceneMessages:
        body_paths = self.parameters.values.body_paths
        return SceneMessages(job.bodies, job.depth, job.depth_info, job.depth_raw, body_paths, job.between)

    def _engine(self) -> Engine:
        pipeline, worker, inputs = self._pipeline, self._worker, self._inputs
        if worker is None:
            raise InputError("state", f"is {self.state}", "activate the node first")
        return Engine(pipeline, worker, inputs.between if inputs is not None else None)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self.enabled = request.data
        response.success = True
        response.message = "images are processed" if self.enabled else "images are dropped; ~/estimate_contact answers"
        return response

    def _report(self) -> None:
        try:
            inputs = self._inputs
            starved = inputs.starved() if inputs is not None else ""
            self.reporter.publish(
                self.state, self.enabled, starved, self.setup_error, self._pipeline, self.parameters.values
            )
        except Exception as error:
            if rclpy_ok(self):
                told = f"{type(error).__name__}: {error}"
                self.reporter.counters.error("internal_error", "report", told)
                self.get_logger().error(f"the report failed: {told}", throttle_duration_sec=60.0)


def rclpy_ok(node: LifecycleNode) -> bool:
    """True until the node's context was shut down."""
    return bool(node.context.ok())


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; returns the exit code (0, or 2 where it cannot start as it is told to)."""
    use_large_image_profile()
    logs = use_writable_log_folder()
    node: ContactNode | None = None
    executor: MultiThreadedExecutor | None = None
    started = False
    try:
        rclpy.init(args=args)
        started = True
        node = ContactNode()
        if logs is not None:
            node.get_logger().warning(f"~/.ros/log cannot be written: this node logs to {logs}; set ROS_LOG_DIR")
        unprotected = what_is_missing(sys.argv if args is None else args)
        if unprotected:
            node.get_logger().warning(unprotected)
        executor = MultiThreadedExecutor(num_threads=4)
        executor.add_node(node)
        executor.spin()
    except IvlmError as error:
        print(f"{NODE_NAME}: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception as error:
        told = (explained(error) or no_log_folder(error) or _wrong_arguments(error)) if node is None else ""
        if told:
            print(f"{NODE_NAME}: {told}", file=sys.stderr)
            return 2
        # The signal handler may close the context between two calls of the executor, which then raises a plain error.
        if not started or rclpy.ok():
            raise
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the cleaning up
        _leave(node, executor)
    return 0


def _wrong_arguments(error: Exception) -> str:
    """What is wrong with the arguments behind --ros-args, where that is what rclpy complains about; else nothing."""
    text = str(error)
    found = re.search(r"Couldn't parse .*?: '(.*?)'", text)
    if found is not None:
        return f"{shown(found[1])} cannot be read: give parameters as -p name:=value, remappings as -r old:=new"
    if type(error).__name__ == "UnknownROSArgsError":
        return f"behind --ros-args, {text} means nothing: give parameters as -p name:=value"
    return ""


def run() -> NoReturn:
    """The executable: `main`, and then out at once.

    An ordinary end would wait for a model in mid-inference, and would take two seconds more to unload its libraries.
    Nothing is lost by not waiting: files are written whole or not at all.
    """
    code = 1
    try:
        code = main()
    except Exception:
        traceback.print_exc()
    # Reference cycles keep the DDS participant, and with it a shared-memory segment that would outlive the process. A
    # model that is still at work must keep what it works with.
    if not any(thread.name == WORKER_THREAD for thread in threading.enumerate()):
        gc.collect()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _leave(node: ContactNode | None, executor: MultiThreadedExecutor | None) -> None:
    if node is not None and not node.stop():
        return  # what is still at work must keep what it works with
    if executor is not None:
        executor.shutdown(timeout_sec=1.0)
    if node is not None:
        node.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    run()
