package threadpool

import "example.com/futures/executor"

// Queue is the queue of calls, to be compared with a model.
type Queue struct{ q queue }

func (q *Queue) Len() int             { return q.q.len() }
func (q *Queue) Push(c executor.Call) { q.q.push(c) }
func (q *Queue) Pop() executor.Call   { return q.q.pop() }
func (q *Queue) Sweep() int           { return q.q.sweep() }
