//! Questions in a stream, each behind its length (RFC 7766 section 8, RFC 7858 section 3.3), many at a time.
use std::collections::HashMap;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::encrypted::{Ask, End};

/// RFC 7766 section 6.2.3: a connection that nobody uses is closed by the client.
const IDLE: Duration = Duration::from_secs(10);
/// Without any answer for so long, questions waiting, the connection is taken for dead.
const DEAD: Duration = Duration::from_secs(5);

/// Carries questions until nobody asks any more, or the stream ends.
///
/// # Errors
/// The stream failed, or what came was no answer; whoever waited is told so.
pub(super) async fn carry(
    stream: impl AsyncRead + AsyncWrite,
    first: Vec<Ask>,
    asked: &mut mpsc::Receiver<Ask>,
) -> io::Result<End> {
    let (mut from, mut to) = tokio::io::split(stream);
    // By the identifier on this connection: different questions may have the same one.
    let mut waiting: HashMap<u16, Ask> = HashMap::new();
    let mut next: u16 = 0;
    let mut received: Vec<u8> = Vec::with_capacity(4096);
    let mut due = first.into_iter();
    loop {
        let ask = match due.next() {
            Some(ask) => ask,
            None => tokio::select! {
                ask = asked.recv() => match ask {
                    Some(ask) => ask,
                    None => return Ok(End::Idle),
                },
                read = from.read_buf(&mut received) => {
                    if read.unwrap_or_default() == 0 {
                        return Ok(End::Closed(waiting.into_values().collect()));
                    }
                    while let Some(message) = take(&mut received) {
                        answer(message, &mut waiting)?;
                    }
                    continue;
                }
                () = sleep(if waiting.is_empty() { IDLE } else { DEAD }) => {
                    waiting.retain(|_, ask| !ask.answer.is_closed());
                    if waiting.is_empty() {
                        return Ok(End::Idle);
                    }
                    return Ok(End::Closed(waiting.into_values().collect()));
                }
            },
        };
        while waiting.contains_key(&next) {
            next = next.wrapping_add(1);
        }
        let length = u16::try_from(ask.message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&ask.message);
        if let Some(id) = framed.get_mut(2..4) {
            id.copy_from_slice(&next.to_be_bytes());
        }
        waiting.insert(next, ask);
        next = next.wrapping_add(1);
        let written = async {
            to.write_all(&framed).await?;
            to.flush().await
        };
        if written.await.is_err() {
            return Ok(End::Closed(waiting.into_values().collect()));
        }
    }
}

/// A whole message from the beginning of what was received.
fn take(received: &mut Vec<u8>) -> Option<Vec<u8>> {
    let (length, rest) = received.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let message = rest.get(..length)?.to_vec();
    received.drain(..2 + length);
    Some(message)
}

fn answer(mut message: Vec<u8>, waiting: &mut HashMap<u16, Ask>) -> io::Result<()> {
    let Some(id) = message.first_chunk_mut::<2>() else { return Err(io::ErrorKind::InvalidData.into()) };
    // Whoever asked may have given up meanwhile.
    let Some(Ask { message: question, answer }) = waiting.remove(&u16::from_be_bytes(*id)) else { return Ok(()) };
    if let Some(own) = question.first_chunk() {
        *id = *own;
    }
    drop(answer.send(Ok(message)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn ask(number: u8) -> (Ask, oneshot::Receiver<io::Result<Vec<u8>>>) {
        let (answer, answered) = oneshot::channel();
        (Ask { message: vec![7, 7, number], answer }, answered)
    }

    #[tokio::test]
    async fn answers_out_of_order_come_to_who_asked_with_the_identifier_of_the_question() {
        let (near, mut far) = tokio::io::duplex(4096);
        let (line, mut asked) = mpsc::channel(8);
        let (first, first_answer) = ask(1);
        let (second, second_answer) = ask(2);
        let carried = tokio::spawn(async move { carry(near, vec![first], &mut asked).await });
        line.send(second).await.unwrap();
        let mut questions = [0; 10];
        far.read_exact(&mut questions).await.unwrap();
        let [one, two] = [&questions[2..5], &questions[7..10]];
        assert_ne!(one[..2], two[..2]);
        let answers = [&[0, 4], two, &[b'!', 0, 4], one, b"!"].concat();
        // In pieces, as a stream comes.
        for byte in answers {
            far.write_all(&[byte]).await.unwrap();
        }
        assert_eq!(second_answer.await.unwrap().unwrap(), [7, 7, 2, b'!']);
        assert_eq!(first_answer.await.unwrap().unwrap(), [7, 7, 1, b'!']);
        drop(line);
        assert!(matches!(carried.await.unwrap(), Ok(End::Idle)));
    }

    #[tokio::test]
    async fn what_a_closed_stream_leaves_unanswered_can_be_asked_again() {
        let (near, mut far) = tokio::io::duplex(4096);
        let (_line, mut asked) = mpsc::channel(8);
        let (first, mut answer) = ask(1);
        let carried = tokio::spawn(async move { carry(near, vec![first], &mut asked).await });
        far.read_exact(&mut [0; 5]).await.unwrap();
        drop(far);
        let Ok(End::Closed(left)) = carried.await.unwrap() else { panic!("it is closed") };
        assert_eq!(left.len(), 1);
        assert!(answer.try_recv().is_err());
        assert!(!left[0].answer.is_closed());
    }
}
