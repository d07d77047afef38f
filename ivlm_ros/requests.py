"""What others ask the node for: one image with its objects, by the service `~/estimate_contact` or as an action.

Both are answered by the worker's thread between two frames of the stream, and leave the stream's tracks alone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse

from ivlm_core.errors import InputError, IvlmError
from ivlm_ros.action import AnalyzeImage
from ivlm_ros.answering import Question, ask, question_from_messages
from ivlm_ros.conversions import is_raw
from ivlm_ros.messages import human_contact_array, object_affordance_array
from ivlm_ros.msg import HumanBodyArray
from ivlm_ros.scene_inputs import SceneMessages
from ivlm_ros.srv import EstimateContact
from ivlm_ros.worker import Worker, wait_for

if TYPE_CHECKING:
    from rclpy.callback_groups import CallbackGroup
    from rclpy.lifecycle import LifecycleNode

    from ivlm_core.types import FrameResult
    from ivlm_ros.parameters import ParameterStore
    from ivlm_ros.reporting import Reporter

# Goals that may wait or be worked on; more are rejected.
MOST_GOALS = 8
# How long the result of a goal can be asked for.
RESULT_SECONDS = 10
STAGES = ("reason", "render", "localize", "lift", "reconstruct")
PEOPLE_ALONE = InputError("objects", "are people alone", "name at least one object")
STOPPED = "the node was stopped before the answer was ready"


@dataclass(frozen=True)
class Engine:
    """What an active node answers with; `between` tells where one frame is in another (see `SceneMessages`)."""

    pipeline: Any
    worker: Worker[Any]
    between: Callable[[str, str], Any] | None = None


class Requests:
    """Offers the service and the action on construction.

    Parameters
    ----------
    node : the node that owns them.
    groups : callback groups of the service and of the action: a service call that waits for the model must not keep the
        action from being cancelled.
    engine : what answers, or an InputError while the node is not active.
    working : marks the time in which the process must not tear anything down.
    """

    def __init__(
        self,
        node: LifecycleNode,
        groups: tuple[CallbackGroup, CallbackGroup],
        parameters: ParameterStore,
        reporter: Reporter,
        engine: Callable[[], Engine],
        working: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._node, self._parameters, self._reporter = node, parameters, reporter
        self._engine, self._working = engine, working
        self._lock = threading.Lock()
        self._goals: deque[Any] = deque()
        self._accepted = 0
        self._service = node.create_service(
            EstimateContact, "~/estimate_contact", self._on_service, callback_group=groups[0]
        )
        self._action = ActionServer(
            node,
            AnalyzeImage,
            "~/analyze_image",
            self._on_goal_begins,
            callback_group=groups[1],
            goal_callback=self._on_goal,
            handle_accepted_callback=self._on_goal_accepted,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
            # Older distributions keep a goal, with its pictures, for a quarter of an hour.
            result_timeout=RESULT_SECONDS,
        )

    @property
    def busy(self) -> bool:
        """True while a goal waits or is worked on."""
        with self._lock:
            return self._accepted > 0

    def _on_service(
        self, request: EstimateContact.Request, response: EstimateContact.Response
    ) -> EstimateContact.Response:
        def answer(engine: Engine, question: Question) -> FrameResult:
            future = engine.worker.call(lambda: ask(engine.pipeline, question, follow=False))
            result: FrameResult = wait_for(future, lambda: self._alive(engine))
            return result

        try:
            self._fill(response, request, answer)
        except CancelledError:
            response.success, response.message = False, STOPPED
        return response

    def _on_goal(self, _: Any) -> GoalResponse:
        with self._lock:
            if self._accepted < MOST_GOALS:
                self._accepted += 1
                return GoalResponse.ACCEPT
        self._reporter.counters.add("goals_rejected")
        self._reporter.log.say("goals", f"a goal was rejected: {MOST_GOALS} are not done; send the next when one is")
        return GoalResponse.REJECT

    def _on_goal_accepted(self, goal: Any) -> None:
        """One goal at a time: each takes a thread of the executor while it waits for the model."""
        with self._lock:
            self._goals.append(goal)
            first = self._goals[0] is goal
        if first:
            goal.execute()
        else:
            self._tell(goal, "waiting", 0.0)

    def _on_goal_begins(self, goal: Any) -> AnalyzeImage.Result:
        result = AnalyzeImage.Result()
        try:
            self._fill(result, goal.request, lambda engine, question: self._follow(goal, engine, question))
            if result.success or result.human_contacts.contacts or result.object_affordances.affordances:
                goal.succeed()
            else:
                goal.abort()
        except CancelledError:
            wanted = goal.is_cancel_requested
            result.success, result.message = False, "cancelled" if wanted else STOPPED
            if wanted:
                self._reporter.counters.add("goals_cancelled")
                goal.canceled()
            else:
                goal.abort()
        finally:
            self._begin_next()
        return result

    def _begin_next(self) -> None:
        """Let the goal that waits longest begin."""
        while True:
            with self._lock:
                self._goals.popleft()
                self._accepted -= 1
                following = self._goals[0] if self._goals else None
            # Once the executor is shut down there is nobody to begin it.
            if following is None or not self._node.context.ok():
                return
            try:
                following.execute()
                return
            # A goal that is cancelled in this very moment cannot begin any more, and must not hold up the others.
            except Exception as error:
                self._reporter.failed(error, "requests")

    def _follow(self, goal: Any, engine: Engine, question: Question) -> FrameResult:
        """The answer to a goal, which is told what begins, and which may be cancelled before each stage."""
        stages = STAGES if self._parameters.values.reconstruct else STAGES[:-1]

        def begins(stage: str) -> None:
            if goal.is_cancel_requested or not self._alive(engine):
                raise CancelledError
            if stage in stages:
                self._tell(goal, stage, stages.index(stage) / len(stages))

        self._tell(goal, "queued", 0.0)
        future: Future[FrameResult] = engine.worker.call(
            lambda: ask(engine.pipeline, question, follow=False, begins=begins)
        )
        while not goal.is_cancel_requested or not future.cancel():
            if not self._alive(engine):
                future.cancel()
                raise CancelledError
            try:
                return future.result(timeout=0.05)
            except FutureTimeout:
                if future.done():
                    return future.result()
        raise CancelledError

    def _fill(self, response: Any, request: Any, answer: Callable[[Engine, Question], FrameResult]) -> None:
        """Put the answer, or why there is none, into a response or an action's result.

        Raises
        ------
        CancelledError : the node was stopped, or the goal cancelled.
        """
        with self._working():
            try:
                self._answer(response, request, answer)
                return
            except CancelledError:
                raise
            except InputError as error:
                self._reporter.bad_input(error)
                response.message = str(error)
            except Exception as error:
                self._reporter.failed(error, "requests")
                response.message = str(error) if isinstance(error, IvlmError) else f"{type(error).__name__}: {error}"
        response.success = False

    def _answer(self, response: Any, request: Any, answer: Callable[[Engine, Question], FrameResult]) -> None:
        engine, values = self._engine(), self._parameters.values
        question = self._question(request, engine)
        nothing = None if question.queries else (*question.detections_refused, PEOPLE_ALONE)[0]
        for error in question.refused:
            if error is not nothing:
                self._reporter.bad_input(error)
        if nothing is not None:
            raise nothing
        result = answer(engine, question)
        self._reporter.counters.add("requests_answered")
        header = _image(request).header
        response.human_contacts = human_contact_array(result, header, values.contact_threshold)
        response.object_affordances = object_affordance_array(result, header, values.contact_threshold)
        response.success = not question.refused
        response.message = "; ".join(str(error) for error in question.refused) or (
            f"{len(result.human_contacts)} human contacts, {len(result.object_affordances)} object affordances"
        )

    def _question(self, request: Any, engine: Engine) -> Question:
        values = self._parameters.values
        labels = values.asked_always or (() if request.objects else tuple(getattr(request, "labels", ())))
        if not request.objects and not labels:
            raise InputError("objects", "is empty", "name at least one object")
        image, scene = _image(request), None
        if values.reconstruct:
            depth_info = getattr(request, "depth_camera_info", None)
            scene = SceneMessages(
                HumanBodyArray(header=image.header, bodies=request.bodies),
                request.depth if _given(request.depth) else None,
                depth_info if depth_info is not None and _given(depth_info) else None,
                is_raw(values.rectify, self._node.resolve_topic_name("depth"), values.reconstruct),
                values.body_paths,
                engine.between,
            )
        return question_from_messages(
            image,
            request.objects,
            labels,
            request.camera_info if _given(request.camera_info) else None,
            values.max_objects,
            scene,
            is_raw(values.rectify, self._node.resolve_topic_name("image"), values.reconstruct),
            values.person_labels,
        )

    def _alive(self, engine: Engine) -> bool:
        try:
            return self._node.context.ok() and self._engine().worker is engine.worker
        except InputError:
            return False

    def _tell(self, goal: Any, stage: str, progress: float) -> None:
        if goal.is_active:
            goal.publish_feedback(AnalyzeImage.Feedback(stage=stage, progress=progress))


def _image(request: Any) -> Any:
    """The picture: the compressed one where the request has room for it and the other is empty."""
    compressed = getattr(request, "compressed_image", None)
    return (
        compressed if compressed is not None and len(compressed.data) and not _given(request.image) else request.image
    )


def _given(message: Any) -> bool:
    """Whether a picture or a camera was filled in: both have a size."""
    return bool(message.width or message.height)
