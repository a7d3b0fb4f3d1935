// Package clustertest starts real NATS servers for tests, each in a process of its own,
// and breaks them: it kills, freezes and restarts them, takes the network away from them,
// and looks from outside at what came of the calls meanwhile.
//
// A server is the test binary, executed again, so TestMain calls [Main] before all else:
//
//	func TestMain(m *testing.M) {
//		clustertest.Main()
//		goleak.VerifyTestMain(m)
//	}
//
//	func TestRestart(t *testing.T) {
//		s := clustertest.StartServer(t, clustertest.Options{})
//		// … connect to s.URL() and submit …
//		s.Kill()
//		s.Restart()
//		// … every future is done …
//	}
//
// [StartCluster] joins servers on loopback. [Namespaces] makes a network whose links can be
// cut, and [StartClusterIn] places one server at each of its nodes.
//
// Two things tell what happened, whatever the parties themselves report. A [Journal] has a
// record of every start and end of a call, written by the task. A [Follower] counts the
// final records of every call that ever stood in a stream.
//
// All that a test starts ends with it: processes, directories, namespaces. If the test
// process itself is killed, its servers end too; what it leaves of a network is removed when
// the same network is made again.
//
// Servers and networks are for Linux. [Journal] and [Follower] are for every system.
//
// A function that takes a [testing.TB] fails the test where it cannot do its work, and so do
// the methods of what it has returned. They are safe for concurrent use, but one that fails
// in another goroutine than the test's ends that goroutine only.
package clustertest
