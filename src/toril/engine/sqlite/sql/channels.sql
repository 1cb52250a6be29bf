-- Channels: named logs of messages.

-- name: channel
SELECT id, last, expires FROM channels WHERE name = :channel

-- name: begin
INSERT INTO channels (name, began, last, expires) SELECT :channel, highest, highest, :expires FROM channel_ids
RETURNING id, last

-- name: begin_anew
UPDATE channels SET began = last WHERE id = :channel

-- name: advance
UPDATE channels SET last = :last, expires = :expires WHERE id = :channel

-- name: append
INSERT INTO messages (channel, id, at, data) SELECT column1, column2, column3, column4 FROM (VALUES {rows}) WHERE true

-- name: trim
DELETE FROM messages WHERE channel = :channel AND id <= :last

-- name: last
SELECT last FROM channels WHERE name = :channel AND expires > :now

-- name: after
SELECT json_group_array(json_array(place, began, messages.id, at, hex(data))) FROM (
    SELECT place, began, channel, id, sum(size) OVER (ORDER BY place, id) - size AS before FROM (
        SELECT asked.key AS place, began, channels.id AS channel, messages.id AS id, length(data) AS size
        FROM json_each(:asked) AS asked
        CROSS JOIN channels ON channels.name = asked.value ->> 0 AND channels.expires > :now
        CROSS JOIN messages ON messages.channel = channels.id AND messages.id > asked.value ->> 1
        ORDER BY asked.key, messages.id LIMIT :limit
    )
) AS found CROSS JOIN messages ON messages.channel = found.channel AND messages.id = found.id WHERE before < :bytes

-- name: expired
SELECT id, last FROM channels WHERE expires <= :now ORDER BY expires LIMIT :limit

-- name: shrink
DELETE FROM messages WHERE channel = :channel AND id IN (SELECT id FROM messages WHERE channel = :channel ORDER BY id LIMIT :limit)

-- name: remove
DELETE FROM channels WHERE id = :channel

-- name: removed
UPDATE channel_ids SET highest = max(highest, :last)
