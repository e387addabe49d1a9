"""RQ's jobs through a worker in this process."""

import redis
from rq import Queue, SimpleWorker
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry, FinishedJobRegistry

import rq_work
from suite import PASSWORD, PORT, check, main

connection = redis.Redis(port=PORT, password=PASSWORD, socket_timeout=20)


def work(*queues):
    worker = SimpleWorker(queues, connection=connection)
    worker.work(burst=True, logging_level="WARNING")


@check
def jobs_run_in_order_and_keep_results():
    connection.flushall()
    queue = Queue("numbers", connection=connection)
    jobs = [queue.enqueue(rq_work.square, number) for number in range(50)]
    assert len(queue) == 50 and jobs[0].get_status() == JobStatus.QUEUED
    work(queue)
    assert len(queue) == 0
    assert [job.return_value() for job in jobs] == [number**2 for number in range(50)]
    assert FinishedJobRegistry(queue=queue).count == 50


@check
def jobs_fail_and_run_again():
    queue = Queue("fragile", connection=connection)
    job = queue.enqueue(rq_work.fail, "on purpose")
    work(queue)
    failed = FailedJobRegistry(queue=queue)
    assert failed.get_job_ids() == [job.id]
    assert "on purpose" in Job.fetch(job.id, connection=connection).latest_result().exc_string
    failed.requeue(job.id)
    assert queue.get_job_ids() == [job.id]


@check
def jobs_wait_for_others_and_for_their_time():
    first, second = Queue("first", connection=connection), Queue("second", connection=connection)
    blob = bytes(range(256)) * 4096
    early = first.enqueue(rq_work.length, blob)
    late = second.enqueue(rq_work.square, 3, depends_on=early)
    assert late.get_status() == JobStatus.DEFERRED
    work(second)
    assert late.get_status(refresh=True) == JobStatus.DEFERRED
    work(first, second)
    assert early.return_value() == len(blob) and late.return_value() == 9
    assert [j.id for j in Job.fetch_many([early.id, late.id], connection=connection)] == [early.id, late.id]


main()
